"""weights/tiny/README.md has the files' own figures."""

import json
import math
import re
from pathlib import Path

import pytest
from pages import ROOT, code, tables
from safetensors import safe_open

from weights.manifest import files

FOLDER = ROOT / "weights" / "tiny"
CARD = FOLDER / "README.md"
NETWORKS = next(table[1:] for table in tables(CARD) if table[0][0] == "part")
FIGURES = re.findall(r"Figures from \[(\S+)\].*?\n\n(.*?)\n\n", CARD.read_text() + "\n", re.S)


def parameters(file: Path) -> int:
    with safe_open(file, "np") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - no dict


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
    readme = (ROOT / "README.md").read_text()
    assert f"{millions:.0f} million parameters" in readme
    assert f"in this repository, {megabytes:.0f} MB" in readme


@pytest.mark.parametrize(("file", "table"), FIGURES, ids=[file for file, _ in FIGURES])
def test_figures_are_those_of_the_trainings(file: str, table: str) -> None:
    measured = json.loads((FOLDER / file).read_text())
    shown = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.M))
    assert shown
    assert shown == {name: str(measured[name]) for name in shown}


def test_every_network_with_figures_shows_them() -> None:
    measured = {file.relative_to(FOLDER).as_posix() for file in FOLDER.glob("*/metrics.json")}
    own_cards = {f"{card.parent.name}/metrics.json" for card in FOLDER.glob("*/README.md")}
    assert measured - own_cards == {file for file, _ in FIGURES}
