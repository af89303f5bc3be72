"""Servers for the contract's tests."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts_fixtures import bank, database_settings, postgres  # noqa: F401
from http_service import ResizeEngine, Service, encoded, running

from server.cli import main
from server.settings import Settings


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(Settings(data_dir=tmp_path_factory.mktemp("data"))) as service:
        yield service


@pytest.fixture
def service(shared_service: Service) -> Iterator[Service]:
    """The server with default settings; its engine is put back after each test."""
    yield shared_service
    vars(shared_service.engine).update(vars(ResizeEngine()))


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[Service]]:
    """`serve(name=value, …)`: a server of its own with these settings."""
    return lambda **settings: running(Settings(data_dir=tmp_path, **settings))


@pytest.fixture
def picture() -> bytes:
    return encoded()


@pytest.fixture
def tiny_on_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands run the embedded profile on the CPU, with a data folder of their own."""
    monkeypatch.setenv("FACE_DETAILER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FACE_DETAILER_PROFILE", "tiny")
    monkeypatch.setenv("FACE_DETAILER_DEVICES", "cpu")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `face-detailer eval` in this process; its exit code, standard output and error."""

    def run(*arguments: str | Path | int | float) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["face-detailer", "eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        return int(ending.value.code or 0), *capfd.readouterr()

    return run
