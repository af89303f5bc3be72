"""docs/api.md says what `server.api.contract` and `server.api.replies` do."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import pytest
from pages import ROOT, blocks, code, tables

from pipeline.types import Rejection
from server.api import contract
from server.api.contract import FIELDS
from server.api.fields import (
    NOT_A_NUMBER,
    not_allowed,
    not_boolean,
    not_text,
    not_whole,
    out_of_range,
)
from server.api.replies import ERRORS

PAGE = ROOT / "docs" / "api.md"
TABLES = tables(PAGE)


def rows_under(*heading: str) -> list[list[str]]:
    """The rows of all tables whose heading begins with these cells."""
    found = [table[1:] for table in TABLES if table[0][: len(heading)] == list(heading)]
    assert found
    return [row for table in found for row in table]


def test_every_path_is_listed() -> None:
    shown = " ".join(row[0] for row in rows_under("call"))
    paths = [value for name, value in vars(contract).items() if name.endswith("PATH")]
    assert len(paths) >= 3
    assert [path for path in paths if not re.search(rf"{path}[`/]", shown)] == []


def test_every_field_of_detect_is_named() -> None:
    section = PAGE.read_text().partition("## Which faces count")[2].partition("\n## ")[0]
    assert [f.name for f in contract.DETECT_FIELDS if f"`{f.name}" not in section] == []
    assert [reason for reason in get_args(Rejection) if f"`{reason}`" not in section] == []


def test_aliases_are_named() -> None:
    text = PAGE.read_text()
    for field in FIELDS:
        for alias, choice in (field.aliases or {}).items():
            assert f"`{alias}` is taken as `{choice}`" in text


def general(text: str) -> str:
    """A text with what belongs to one field taken out of it."""
    text = re.sub(r"between \S+ and \S+$", "between A and B", text)
    text = re.sub(r"Invalid \S+\. Allowed values are .*", "Invalid <name>.", text)
    text = re.sub(r"\b\d+ (steps|pixels|s)\b", r"N \1", text)
    text = text.replace("…", "N").replace("Request {}", "Request <id>")
    return text.replace("{}", "<why>")


def test_every_error_is_listed_with_its_status() -> None:
    shown = {(int(row[0]), general(code(row[1]))) for row in rows_under("status", "text", "when")}
    parameter = next(field for field in FIELDS if field.low is not None)
    choice = next(field for field in FIELDS if field.choices)
    name = "<name>"
    wanted = {
        (400, NOT_A_NUMBER),
        (400, not_whole(name)),
        (400, general(out_of_range(parameter)).replace(parameter.name, name)),
        (400, general(not_allowed(choice))),
        (400, not_boolean(name)),
        (400, not_text(name)),
        (400, general(contract.over_budget(120, 100))),
        (400, general(contract.too_large_for("<format>", 100))),
        (400, general(contract.late_body(100))),
        *((400, field.missing) for field in FIELDS if field.missing),
        *((400, general(text)) for text in raised_texts(ROOT / "server", {"BadParameter"})),
        *((row.status, general(row.text)) for row in ERRORS.values() if row.text != "{}"),
    }
    # The one that is not JSON has a page for a text.
    wanted = {(status, text if status != 405 else "an HTML page") for status, text in wanted}
    assert shown == wanted


def raised_texts(folder: Path, names: set[str]) -> set[str]:
    """The sentences that code below `folder` raises these exceptions with; inserts as `…`."""
    return {
        "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
        for argument in node.args
        for parts in _literals(argument)
    }


def _literals(node: ast.AST) -> Iterator[list[ast.expr]]:
    """The parts of every string in an expression; an f-string is one string."""
    if isinstance(node, ast.JoinedStr):
        yield node.values
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield [node]
    else:
        for child in ast.iter_child_nodes(node):
            yield from _literals(child)


def test_every_reason_to_refuse_a_picture_is_listed() -> None:
    shown = "\n".join(code(row[1]) for row in rows_under("status", "why"))
    texts = raised_texts(ROOT / "server", {"BadImage", "TooLarge"}) | raised_texts(
        ROOT / "pipeline", {"InvalidImage", "ImageTooLarge"}
    )
    assert len(texts) > 10
    for text in texts:
        for fragment in text.split("…"):
            assert fragment.strip() in shown, text


def post(url: str, key: str, picture: Path, fields: dict[str, object]) -> httpx.Response:
    return httpx.post(
        url,
        headers={contract.KEY_HEADER: key},
        files={"image": picture.read_bytes()},
        data=fields,
        trust_env=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("path", "fields", "groups"),
    [
        (contract.PATH, {"prompt": "", "denoise": 0}, {"every reply", "pictures"}),
        (contract.PATH, {"prompt": "", "denoise": 2}, {"every reply"}),
        (contract.DETECT_PATH, {}, {"every reply", "detections"}),
    ],
)
def test_replies_carry_the_headers_that_are_listed(
    server_url: str,
    shell: dict[str, str],
    folder: Path,
    path: str,
    fields: dict[str, object],
    groups: set[str],
) -> None:
    picture = folder / "examples" / "astronaut-damaged.jpg"
    reply = post(f"{server_url}{path}", shell["KEY"], picture, fields)
    listed = {
        code(row[0]).lower()
        for row in rows_under("header", "on")
        if groups & set(row[1].split(", "))
    }
    own = {name.lower() for name in reply.headers if name.lower().startswith("x-")}
    assert own == listed


def test_detect_answers_with_the_keys_that_are_shown(
    server_url: str, shell: dict[str, str]
) -> None:
    shown = json.loads(next(text for text in blocks(PAGE, "json") if "faces" in text))
    picture = ROOT / "examples" / "astronaut-damaged.jpg"
    reply = post(f"{server_url}{contract.DETECT_PATH}", shell["KEY"], picture, {}).json()
    assert reply.keys() == shown.keys()
    assert (reply["width"], reply["height"], len(reply["faces"])) == (512, 512, 1)
    assert reply["faces"][0].keys() == shown["faces"][0].keys()
