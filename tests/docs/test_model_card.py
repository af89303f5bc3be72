"""The model card and the training history show the files' own figures."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, code, name_of, shell_lines, tables
from safetensors import safe_open

from weights.manifest import files

FOLDER = ROOT / "weights" / "tiny"
CARD = FOLDER / "README.md"
HISTORY = ROOT / "training" / "README.md"
METRICS = sorted(FOLDER.glob("*/metrics.json"))
NETWORKS = next(table[1:] for table in tables(CARD) if table[0][0] == "part")
_LINKED = re.compile(r"\[\w+\]\((\w+/metrics\.json)\)")
_SECTION = re.compile(r"Figures from\s\[\S+\]\((\S+)\).*?\n\n(\|.*?)\n\n", re.DOTALL)


def parameters(file: Path) -> int:
    with safe_open(file, "np") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - no dict


def measured(file: Path, key: str) -> str:
    """The value of a dotted key as JSON writes it."""
    value: Any = json.loads(file.read_text())
    for part in key.split("."):
        value = value[part]
    return str(value)


def keys(table: dict[str, Any], prefix: str = "") -> set[str]:
    """The dotted keys of all figures: what is a number, but for the settings of the run."""
    found: set[str] = set()
    for name, value in table.items():
        if isinstance(value, dict):
            found |= keys(value, f"{name}.")
        elif isinstance(value, int | float) and name != "threads":
            found.add(prefix + name)
    return found


def test_the_card_fits_on_a_page() -> None:
    assert len(CARD.read_text().splitlines()) <= 60


@pytest.mark.parametrize("row", NETWORKS, ids=lambda row: row[0])
def test_networks(row: list[str]) -> None:
    paths = [path.strip("`") for path in row[3].split(", ")]
    licences = {f.licence for f in files("tiny") if f.path.startswith(tuple(paths))}
    assert licences == {row[5]}
    if row[2] != "–":
        assert float(row[2].removesuffix(" M")) == pytest.approx(
            parameters(FOLDER / paths[0]) / 1e6, abs=0.06
        )


def test_every_network_is_listed() -> None:
    shown = {code(row[3]) for row in NETWORKS}
    assert {f.path for f in files("tiny") if f.path.endswith(".safetensors")} <= shown


def test_the_readme_says_how_large_it_is() -> None:
    millions = sum(parameters(file) for file in FOLDER.rglob("*.safetensors")) / 1e6
    megabytes = sum(file.bytes for file in files("tiny")) / 1e6
    for page in (CARD, ROOT / "README.md"):
        assert f"{millions:.0f} million parameters" in page.read_text(), name_of(page)
    assert f"in this repository, {megabytes:.0f} MB" in (ROOT / "README.md").read_text()


def test_the_cards_figures_are_those_of_the_trainings() -> None:
    rows = next(table[1:] for table in tables(CARD) if table[0][:2] == ["network", "figure"])
    linked = [(match[1], *row[1:3]) for row in rows if (match := _LINKED.fullmatch(row[0]))]
    assert {file for file, _, _ in linked} == {
        file.relative_to(FOLDER).as_posix() for file in METRICS
    }
    for file, key, value in linked:
        assert value == measured(FOLDER / file, code(key)), key


@pytest.mark.parametrize("file", METRICS, ids=lambda file: file.parent.name)
def test_the_history_shows_every_figure(file: Path) -> None:
    sections = {
        (HISTORY.parent / name).resolve(): table
        for name, table in _SECTION.findall(HISTORY.read_text())
    }
    shown = dict(re.findall(r"^\| `([\w.]+)` \| (\S+) \|", sections[file], re.M))
    wanted = keys(json.loads(file.read_text()))
    assert shown == {key: measured(file, key) for key in wanted}


def test_the_card_and_the_history_agree_on_restoring() -> None:
    rows = next(table[1:] for table in tables(CARD) if table[0][:2] == ["network", "figure"])
    card = [row[2] for row in rows if row[0].startswith("restoring")]
    history = next(table[1:] for table in tables(HISTORY) if table[0][:2] == ["level", "PSNR"])
    shown = ["; ".join(cell.partition(" (")[0] for cell in row[1:4]) for row in history]
    assert sorted(card) == sorted(shown)


def test_the_trainings_take_the_options_that_are_shown() -> None:
    shared = (HISTORY.parent / "common.py").read_text()
    lines = [words for words in shell_lines(HISTORY) if "-m" in words]
    assert len(lines) >= 8
    for words in lines:
        module = words[words.index("-m") + 1]
        file = ROOT / f"{module.replace('.', '/')}.py"
        text = file.read_text()
        given = [word for word in words[words.index(module) :] if word.startswith("--")]
        offered = text + shared if "parse_options(" in text else text
        assert [option for option in given if f'"{option}"' not in offered] == [], module
