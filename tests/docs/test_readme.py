"""The README's own commands and code, run against a running server."""

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import PIL.Image
import pytest
from http_service import running
from pages import ROOT, blocks, shell_lines

from server.settings import Settings
from server.types import EngineState

README = ROOT / "README.md"
SHOWN_URL = "http://127.0.0.1:8000"
SNIPPETS = blocks(README, "python")
NAMES = ["requests", "segmind", "segmind's functions", "client"]


def assert_result(file: Path) -> None:
    with PIL.Image.open(file) as image:
        assert (image.format, image.size) == ("JPEG", (128, 96))


def test_every_snippet_is_for_this_server() -> None:
    assert [SHOWN_URL in snippet for snippet in SNIPPETS] == [True] * len(NAMES)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=NAMES)
def test_python(snippet: str, server_url: str, shell: dict[str, str], folder: Path) -> None:
    code = snippet.replace(SHOWN_URL, server_url)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=shell, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "print" in snippet:
        assert done.stdout == "credits left: 0.99\n"
    assert_result(folder / "result.jpg")


NEEDS_CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(words: list[str], server_url: str, key: str, folder: Path) -> int:
    words = [word.replace(SHOWN_URL, server_url).replace("$KEY", key) for word in words]
    return subprocess.run([*words, "--silent", "--show-error"], cwd=folder).returncode


@NEEDS_CURL
def test_curl(server_url: str, shell: dict[str, str], folder: Path) -> None:
    calls = [words for words in shell_lines(README) if words[0] == "curl"]
    assert len(calls) == 2
    for words in calls:
        assert curl(words, server_url, shell["KEY"], folder) == 0
    assert_result(folder / "result.jpg")


@NEEDS_CURL
def test_a_script_notices_that_curl_failed(server_url: str, folder: Path) -> None:
    call = next(words for words in shell_lines(README) if "x-api-key: $KEY" in words)
    assert curl(call, server_url, "SG_wrong", folder) == 22
    assert "Unauthorized" in (folder / "result.jpg").read_text()


@NEEDS_CURL
def test_curl_waits_for_a_server_that_starts(folder: Path, tmp_path: Path) -> None:
    wait = next(words for words in shell_lines(README) if words[-1].endswith("/ready"))
    with running(Settings(data_dir=tmp_path / "data")) as service:
        service.engine.state = EngineState.STARTING
        begins = threading.Timer(1, lambda: vars(service.engine).update(state=EngineState.READY))
        begins.start()
        try:
            assert curl(wait, service.url, "", folder) == 0
            assert service.engine.state is EngineState.READY
        finally:
            begins.join()


def test_make_serve_prints_the_same_calls() -> None:
    command = ["make", "--dry-run", "serve"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    printed = re.findall(r'echo "  (curl [^;]*)"', recipe)
    shown = [words for words in shell_lines(README) if words[0] == "curl"]
    assert [call.split()[:3] for call in printed] == [words[:3] for words in shown]
