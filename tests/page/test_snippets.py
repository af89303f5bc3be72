"""The code that the page shows makes the call that it made."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page_browser import NEEDS_CHROMIUM, Visit
from page_relay import Relay

# Minutes in all; `make test` sees the page's main ways in `test_ways` and `test_detailing`.
pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

COMMANDS = {
    "curl": ["bash", "-c"],
    "Python": [sys.executable, "-c"],
    "JavaScript": ["node", "--input-type=module", "-e"],
}
PROMPT = '@it\'s "so" $HOME; \\ (fine:1.1)\n é'


# Of `node`: before it, what the code uses is not there, or warns.
OLDEST_NODE = 20


def can_run(way: str) -> bool:
    program = COMMANDS[way][0]
    if shutil.which(program) is None:
        return False
    if program != "node":
        return True
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return int(version.stdout.removeprefix("v").split(".")[0]) >= OLDEST_NODE


def code_of(visit: Visit, way: str) -> str:
    visit["#ways"].get_by_text(way, exact=True).click()
    return visit["#code"].text_content() or ""


def run(way: str, code: str, folder: Path, key: str) -> None:
    environment = {"KEY": key, "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [*COMMANDS[way], code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def sent(body: bytes) -> dict[str, str]:
    """The text fields of a form; forms write line ends as CRLF, or leave them."""
    found = re.findall(
        rb' name="(\w+)"\r\n(?:Content-Type: text[^\r]*\r\n)?\r\n(.*?)\r\n--', body, re.S
    )
    return {name.decode(): value.decode().replace("\r\n", "\n") for name, value in found}


@pytest.mark.parametrize("samples", ["1", "2"])
def test_it_sends_the_same_fields_and_writes_the_same_files(
    relayed: Visit, relay: Relay, its_key: str, two: Path, tmp_path: Path, samples: str
) -> None:
    visit, key = relayed, its_key
    visit.choose(two)
    visit.set(prompt=PROMPT, denoise="0.4", upscale="1", image_format="png", samples=samples)
    visit.detail()
    wanted = visit.download()
    visit["#copy-done"].click()
    stem = "two faces-detailed"
    names = {"1": {f"{stem}.png"}, "2": {f"{stem}-1.png", f"{stem}-2.png"}}[samples]
    for way in filter(can_run, COMMANDS):
        code = code_of(visit, way)
        assert key not in code
        folder = tmp_path / way
        folder.mkdir()
        shutil.copy(two, folder)
        run(way, code, folder, key)
        fields = sent(relay.bodies[-1])
        fields.pop("base64", None)
        assert fields == {
            "prompt": PROMPT,
            "denoise": "0.4",
            "upscale": "1",
            "image_format": "png",
            **({"samples": "2"} if samples == "2" else {}),
        }, way
        written = {path.name for path in folder.iterdir()} - {two.name}
        assert written == ({f"{stem}.png"} if way == "curl" else names), way
        assert (folder / min(written)).read_bytes() == wanted, way


def test_it_is_copied(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.choose(two)
    visit["#copy-call"].click()
    code = code_of(visit, "Python")
    visit["#copy"].click()
    visit["#copy"].get_by_text("Copied").wait_for()
    assert visit.page.evaluate("navigator.clipboard.readText()") == code


def test_an_emptied_text_is_sent_and_an_emptied_number_is_not(visit: Visit, two: Path) -> None:
    visit.choose(two)
    visit.set(negative_prompt="", seed="", max_faces="")
    visit["#copy-call"].click()
    code = code_of(visit, "curl")
    assert "'negative_prompt='" in code
    assert "seed" not in code
    assert "max_faces" not in code


def test_the_code_names_the_file_that_is_looked_at(visit: Visit, two: Path) -> None:
    """The example's says where that is to be had."""
    visit["#example"].click()
    visit["#copy-call"].click()
    for way in COMMANDS:
        assert f"example.jpg is at {visit.url}/page/example.jpg" in code_of(visit, way)
    visit["#copy-close"].click()
    visit.choose(two)
    visit["#copy-call"].click()
    for way in COMMANDS:
        code = code_of(visit, way)
        assert two.name in code
        assert "example" not in code


def test_a_failed_curl_fails(relayed: Visit, two: Path, tmp_path: Path) -> None:
    visit = relayed
    visit.choose(two)
    visit["#copy-call"].click()
    code = code_of(visit, "curl")
    environment = {"KEY": "SG_wrong", "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-c", code.replace(two.name, str(two), 1)], cwd=tmp_path, env=environment
    )
    assert done.returncode == 22
    assert "Unauthorized" in (tmp_path / "two faces-detailed.jpg").read_text()
