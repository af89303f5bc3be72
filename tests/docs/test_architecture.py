"""docs/architecture.md names what is there, in the order that the import contracts hold."""

import re
import tomllib
from typing import Any

from pages import ROOT, tables

PAGE = ROOT / "docs" / "architecture.md"
FLOORS = next(table[1:] for table in tables(PAGE) if table[0][0] == "floor")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS: list[dict[str, Any]] = PROJECT["tool"]["importlinter"]["contracts"]


def layers_of(package: str) -> list[list[str]]:
    """The floors of a package as the contracts have them, the highest first."""
    layers = next(
        contract["layers"]
        for contract in CONTRACTS
        if contract["type"] == "layers" and contract["layers"][0].startswith(f"{package}.")
    )
    return [re.findall(rf"{package}\.(\w+)", layer) for layer in layers]


def test_every_path_that_is_named_exists() -> None:
    text = PAGE.read_text()
    paths = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", text)
    assert len(paths) > 20
    rooms = {f"{folder.name}/" for folder in (ROOT / "server").iterdir()}
    below = {f"{folder.name}/" for folder in (ROOT / "pipeline").rglob("*") if folder.is_dir()}
    assert [p for p in paths if not (ROOT / p).exists() and p not in rooms | below] == []


def test_the_packages_are_drawn_in_the_order_of_their_contract() -> None:
    drawn = re.findall(r"^(\w+)/ {2,}\S", PAGE.read_text(), re.M)
    layers = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"]
    assert drawn in layers


def test_every_module_of_the_pipeline_is_on_a_floor() -> None:
    shown = {name.rstrip("/") for row in FLOORS for name in re.findall(r"`(\w+/?)`", row[1])}
    modules = {
        path.stem
        for folder in (ROOT / "pipeline", ROOT / "pipeline" / "models")
        for path in folder.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem[0] != "_"
    }
    assert modules - shown == set()


def test_the_floors_are_in_the_order_of_their_contract() -> None:
    floor_of = {
        name.rstrip("/"): floor
        for floor, row in enumerate(FLOORS)
        for name in re.findall(r"`(\w+/?)`", row[1])
    }
    floors = [floor_of[name] for layer in layers_of("pipeline") for name in layer]
    assert floors == sorted(floors)
