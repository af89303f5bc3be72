"""What all tests have in common."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from server_program import environment, server_url  # noqa: F401

from server import ENV_PREFIX
from server.cli.main import main
from weights.manifest import profile_folder


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return profile_folder("tiny")


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
