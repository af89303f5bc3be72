"""The manifest of the embedded profile, and how a damaged copy is found out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.manifest import write_manifest
from weights.manifest import (
    ProfileError,
    files,
    profile_at,
    profile_folder,
    profile_names,
    profile_path,
    verify,
)

LIMIT_BYTES = 32_000_000


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the embedded profile that may be damaged."""
    return shutil.copytree(profile_folder("tiny"), tmp_path / "tiny")


def test_the_embedded_files_are_what_the_manifest_says() -> None:
    problems = verify(files("tiny"), profile_folder("tiny"))
    assert [str(problem) for problem in problems] == []


def test_nothing_lies_in_the_folder_that_the_manifest_leaves_out(copy: Path) -> None:
    assert write_manifest(copy) == files("tiny")


def test_the_embedded_profile_stays_small() -> None:
    assert sum(file.bytes for file in files("tiny")) <= LIMIT_BYTES


def test_no_embedded_file_is_a_pickle() -> None:
    suffixes = {Path(file.path).suffix for file in files("tiny")}
    assert suffixes <= {".json", ".safetensors", ".toml", ".txt", ".yaml"}


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "upscaler" / "x2.safetensors").unlink()
    (problem,) = verify(files("tiny"), copy)
    assert problem.kind == "missing"
    assert str(problem).startswith("upscaler/x2.safetensors: expected a file of ")
    assert str(problem).endswith(" bytes, got none")


def test_a_shortened_file_is_named(copy: Path) -> None:
    file = copy / "profile.toml"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1])
    (problem,) = verify(files("tiny"), copy)
    assert str(problem) == f"profile.toml: expected {size} bytes, got {size - 1} bytes"


def test_a_file_with_one_changed_bit_is_named(copy: Path) -> None:
    file = copy / "upscaler" / "x2.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    (problem,) = verify(files("tiny"), copy)
    assert problem.kind == "hash"
    wanted = next(entry.sha256 for entry in files("tiny") if entry.path == problem.path)
    assert problem.expected == f"sha256 {wanted}"
    assert problem.got != problem.expected


def test_an_empty_folder_misses_everything(tmp_path: Path) -> None:
    problems = verify(files("tiny"), tmp_path)
    assert [problem.path for problem in problems] == [file.path for file in files("tiny")]


def test_fetched_profiles_lie_below_the_data_folder(tmp_path: Path) -> None:
    assert profile_names() == ("sdxl", "sdxl-fast", "sdxl-inpainting", "tiny")
    assert profile_folder("sdxl", tmp_path) == tmp_path / "weights" / "sdxl"
    with pytest.raises(ProfileError, match="'sdxl' is stored in a data folder"):
        profile_folder("sdxl")


@pytest.mark.parametrize("name", ["sdxl-fast", "sdxl-inpainting"])
def test_a_variant_lies_beside_the_profile_that_it_varies(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "weights" / "sdxl"
    assert profile_folder(name, tmp_path) == profile_path("sdxl", tmp_path) == folder
    file = profile_path(name, tmp_path)
    assert file.parent == folder
    assert (profile_at(file), profile_at(folder)) == (name, "sdxl")
    assert profile_at(tmp_path / "mine" / file.name) == file.name


def test_the_embedded_profile_ignores_the_data_folder(tmp_path: Path) -> None:
    assert profile_folder("tiny", tmp_path) == profile_folder("tiny")


@pytest.mark.parametrize("name", ["", "huge", "../tiny"])
def test_an_unknown_profile_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="one of sdxl, sdxl-fast, sdxl-inpainting, tiny"):
        profile_folder(name, tmp_path)
    with pytest.raises(ProfileError, match="one of sdxl, sdxl-fast, sdxl-inpainting, tiny"):
        files(name)


def test_the_package_is_light() -> None:
    code = "import sys, weights.manifest; print({'torch', 'pipeline', 'server'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
