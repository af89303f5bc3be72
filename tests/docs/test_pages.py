"""Links lead somewhere, and commands that are shown exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pages import PAGES, ROOT, blocks, name_of, shell_lines

from server.cli.main import app

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PROGRAM = re.compile(r"(\.venv/bin/)?face-detailer")
_MAKE = re.compile(r"\bmake ([a-z]+)\b")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    targets = [target.partition("#")[0] for target in _LINK.findall(page.read_text())]
    files = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [file for file in files if file and not (page.parent / file).exists()] == []


def shown_targets() -> set[str]:
    """Behind `make`, in shell blocks and in inline code."""
    text = "\n".join(page.read_text() for page in PAGES)
    inline = re.findall(r"`(make [^`\n]+)`", text)
    shell = [" ".join(words) for page in PAGES for words in shell_lines(page)]
    return {target for line in inline + shell for target in _MAKE.findall(line)}


def test_make_has_every_target_that_is_shown() -> None:
    targets = shown_targets()
    assert {"demo", "test", "serve", "setup"} <= targets
    # A dry run, which fails where there is no rule.
    command = ["make", "--dry-run", *sorted(targets)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def shown_commands() -> list[list[str]]:
    """What `face-detailer` is given in any shell block."""
    found = []
    for page in PAGES:
        for words in shell_lines(page):
            programs = [i for i, word in enumerate(words) if _PROGRAM.fullmatch(word)]
            if programs:
                found.append(words[programs[0] + 1 :])
            elif words[0] == "docker" and "run" in words and "--entrypoint" in words:
                # Another program.
                continue
            elif words[:2] == ["docker", "compose"] and "run" in words:
                # The image's entry point is the command: what it takes stands behind the service.
                found.append(words[words.index("weights") + 1 :])
    return found


def check(words: list[str]) -> None:
    """Raise where the command line does not take these words."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_face_detailer_takes_what_is_shown(words: list[str]) -> None:
    check(words)


@pytest.mark.parametrize("words", [["serves"], ["serve", "--prot", "1"], ["detail"]], ids=" ".join)
def test_a_wrong_command_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"serves|No such option|Missing"):
        check(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_that_is_shown_compiles(page: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, name_of(page), "exec")


def prose(page: Path) -> list[str]:
    """The page's lines without tables and their markers, code, and the targets of links."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "<!--"))]
    return [_LINK.sub("]", line) for line in lines if not line.startswith("    ")]


def test_every_markdown_file_is_a_page() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    there = {file for file in listed.stdout.split() if (ROOT / file).exists()}
    assert there == {name_of(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_is_wrapped_at_100_columns(page: Path) -> None:
    assert [line for line in prose(page) if len(line) > 100] == []
