"""`face-detailer load` against a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from http_service import Service, encoded
from server_program import environment_with

COMMAND = [sys.executable, "-c", "from server.cli.main import main; main()"]
PATH = {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encoded())
    return tmp_path / "a.png"


def load(*words: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "load", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment_with() | PATH)


@pytest.mark.slow
def test_it_counts_what_is_answered(service: Service, file: Path) -> None:
    calls = file.with_name("calls.json")
    words = [file, "--url", service.url, "--clients", 3, "--seconds", 5, "--json", calls]
    done = load(*words, "--key", service.new_key("1000"))
    assert done.returncode == 0, done.stderr
    times = json.loads(calls.read_text())
    assert {status for _, _, status in times} == {200}
    assert all(0 <= begun < ended for begun, ended, _ in times)
    (row,) = (line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["200"])
    assert int(row[1]) == len(times) >= 3
    assert len(service.engine.jobs) == len(times)


@pytest.mark.parametrize("url", [pytest.param("its", marks=pytest.mark.slow), "http://127.0.0.1:9"])
def test_where_nothing_is_answered_it_says_so(service: Service, file: Path, url: str) -> None:
    url = service.url if url == "its" else url
    done = load(file, "--url", url, "--seconds", 1, "--key", "SG_wrong")
    assert done.returncode == 1
    assert done.stderr == f"face-detailer: No call to {url} was answered with 200.\n"
    assert ("401" if url == service.url else "no answer") in done.stdout


def test_ctrl_c_still_shows_the_figures(service: Service, file: Path) -> None:
    words = ["load", str(file), "--url", service.url, "--seconds", "600", "--json", "calls.json"]
    process = subprocess.Popen(
        [*COMMAND, *words, "--key", service.new_key("1000")],
        cwd=file.parent,
        env=environment_with() | PATH,
        stdout=subprocess.PIPE,
        text=True,
    )
    while not service.engine.jobs:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (row,) = (line.split() for line in shown.splitlines() if line.split()[:1] == ["200"])
    assert int(row[1]) == len(json.loads(file.with_name("calls.json").read_text())) >= 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--url", "http://["], 2, "--url: The server's address should be an http(s) URL"),
        (["--key", "ä"], 2, "--key: The API key should consist of printable ASCII characters."),
        (["--json", "/proc/a.json"], 1, "Nothing can be written to /proc: "),
    ],
)
def test_what_cannot_be_called_is_said_at_once(
    file: Path, words: list[str], code: int, sentence: str
) -> None:
    done = load(file, *words)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"face-detailer: {sentence}")


def test_a_missing_picture_is_said_at_once(tmp_path: Path) -> None:
    done = load(tmp_path / "none.jpg", "--key", "SG_0")
    assert done.returncode == 1
    assert "none.jpg cannot be read: No such file or directory." in done.stderr
