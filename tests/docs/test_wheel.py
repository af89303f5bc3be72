"""What an installation consists of: the wheel's files, and that the image is built from them."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from pages import ROOT

PACKAGES = {"server", "evaluation", "pipeline", "weights", "face_detailer_client"}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[PurePosixPath]:
    """The files of a wheel that is built as the Dockerfile builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


def test_the_wheel_holds_the_five_packages_and_nothing_else(names: list[PurePosixPath]) -> None:
    metadata = {name.parts[0] for name in names if name.parts[0].endswith(".dist-info")}
    assert len(metadata) == 1
    assert {name.parts[0] for name in names} == PACKAGES | metadata
    assert not [name for name in names if {"training", "tests"} & set(name.parts)]


def test_the_packages_are_complete(names: list[PurePosixPath]) -> None:
    modules = {
        PurePosixPath(file.relative_to(ROOT).as_posix())
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
    }
    assert modules <= set(names)
    page = ROOT / "server" / "api" / "page" / "files"
    files = {PurePosixPath(file.relative_to(ROOT).as_posix()) for file in page.iterdir()}
    assert PurePosixPath("server/api/page/files/index.html") in files
    assert files <= set(names)
    embedded = {name.parts[2] for name in names if name.parts[:2] == ("weights", "tiny")}
    assert {"profile.toml", "manifest.json", "unet", "vae", "detector", "upscaler"} <= embedded


def test_the_image_is_built_from_the_same_packages() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (\w+) \./(\w+)$", dockerfile, re.M)
    assert set(copied) == {(name, name) for name in PACKAGES}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES


def test_no_package_imports_what_is_not_installed() -> None:
    """Where the wheel alone is installed there is no `training`, and no folder of tests."""
    wanted = re.compile(r"^\s*(?:from|import) (?:training|tests)\b", re.M)
    files = [file for package in PACKAGES for file in Path(ROOT / package).rglob("*.py")]
    assert not [file for file in files if wanted.search(file.read_text())]
