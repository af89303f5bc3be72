"""The README's own commands and code, run against a running server."""

import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from pages import ROOT, blocks, shell_lines

README = ROOT / "README.md"
SHOWN_URL = "http://127.0.0.1:8000"
SNIPPETS = blocks(README, "python")


def assert_result(file: Path) -> None:
    with PIL.Image.open(file) as image:
        assert (image.format, image.size) == ("JPEG", (128, 96))


def test_there_are_two_snippets_for_this_server() -> None:
    assert [SHOWN_URL in snippet for snippet in SNIPPETS] == [True, True]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["requests", "segmind"])
def test_python(snippet: str, server_url: str, shell: dict[str, str], folder: Path) -> None:
    code = snippet.replace(SHOWN_URL, server_url)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=shell, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "print" in snippet:
        assert done.stdout == "credits left: 0.99\n"
    assert_result(folder / "result.jpg")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server_url: str, shell: dict[str, str], folder: Path) -> None:
    calls = [words for words in shell_lines(README) if words[0] == "curl"]
    assert len(calls) == 1
    words = [word.replace(SHOWN_URL, server_url).replace("$KEY", shell["KEY"]) for word in calls[0]]
    subprocess.run([*words, "--silent", "--show-error"], cwd=folder, check=True)
    assert_result(folder / "result.jpg")
