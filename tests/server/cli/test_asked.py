"""What `detail --url` asks a server for, run after run; and the keys that it remembers."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from http_service import Service, encoded, running
from server_program import environment_with

from server.cli.asked import Asked
from server.settings import Settings

COMMAND = [sys.executable, "-c", "from server.cli.main import main; main()"]
PATH = {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
DAY_S = 86_400
Detail = Callable[..., int]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A server that only enlarges pictures, and counts calls."""
    with running(Settings(data_dir=tmp_path / "server", metrics=True)) as service:
        yield service


@pytest.fixture
def detail(service: Service, tmp_path: Path) -> Detail:
    """Run `detail` on `a.png` by the server; its exit code."""
    (tmp_path / "a.png").write_bytes(encoded())
    environment = environment_with(
        url=service.url, key=service.new_key("1"), data_dir=str(tmp_path / "data")
    )

    def run(*options: str) -> int:
        command = [*COMMAND, "detail", "a.png", *options]
        done = subprocess.run(command, env=environment | PATH, cwd=tmp_path, capture_output=True)
        return done.returncode

    return run


def posts(service: Service) -> float:
    """How many requests for the queue have come, known ones too."""
    lines = service.client.get("/metrics").text.splitlines()
    counts = [line for line in lines if "requests_total{" in line and "/v2/face-detailer" in line]
    return sum(float(line.split()[-1]) for line in counts)


@pytest.mark.slow
def test_once_it_has_finished_it_asks_for_new_work_wherever_its_result_is(
    detail: Detail, service: Service, tmp_path: Path
) -> None:
    for options in (["--seed", "-1"], ["-o", "-"]):
        for number in (1, 2):
            assert detail(*options) == 0
            assert len(service.engine.jobs) == number
            (tmp_path / "a-detailed.png").unlink(missing_ok=True)
        service.engine.jobs.clear()


@pytest.mark.slow
def test_a_picture_that_fails_is_sent_once_a_run(detail: Detail, service: Service) -> None:
    service.engine.error = RuntimeError("broken")
    before = posts(service)
    for number in (1, 2, 3):
        assert detail() == 1
        assert posts(service) == before + number
    service.engine.error = None
    assert detail() == 0


@pytest.mark.slow
def test_a_result_that_could_not_be_kept_is_paid_once(
    detail: Detail, service: Service, tmp_path: Path
) -> None:
    result = tmp_path / "a-detailed.png"

    def block(*_: object) -> None:
        result.write_bytes(b"somebody's own")

    service.engine.jobs = Watched(block)
    assert detail() == 1
    result.unlink()
    assert detail() == 0
    assert len(service.engine.jobs) == 1


class Watched(list[object]):
    """A list that calls `on_append` with what is added."""

    def __init__(self, on_append: Callable[..., None]) -> None:
        super().__init__()
        self._on_append = on_append

    def append(self, item: object) -> None:
        super().append(item)
        self._on_append(item)


def test_a_key_is_remembered_until_it_is_forgotten_or_a_day_old(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    asked = Asked(settings)
    asked.drop_old()
    key = asked.key("one")
    assert Asked(settings).key("one") == key != asked.key("two")
    asked.drop_old()
    assert asked.key("one") == key
    asked.forget("one")
    new = asked.key("one")
    assert new != key
    long_ago = time.time() - DAY_S - 60
    os.utime(settings.data_dir / "asked" / "one", (long_ago, long_ago))
    asked.drop_old()
    assert asked.key("one") != new
    assert [
        file.stat().st_mode & 0o077 for file in (settings.data_dir, tmp_path / "data/asked")
    ] == [0, 0]


def test_without_a_data_folder_every_request_has_a_key_of_its_own() -> None:
    asked = Asked(Settings(data_dir=Path("/proc/none")))
    asked.drop_old()
    assert asked.key("one") != asked.key("one")
    asked.forget("one")
