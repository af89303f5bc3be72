"""Importing from a folder, without network."""

import shutil
from pathlib import Path

import pytest
from small_profile import PICKLE_PATH, REPO, Profile

from weights.errors import Incomplete, WrongFile
from weights.records import verify_fetched

UNET = "unet/big.safetensors"
CONFIG = "unet/config.json"
UPSCALER = "upscaler/x2.safetensors"


@pytest.fixture
def pulled(profile: Profile, tmp_path: Path) -> Path:
    """A folder that a pull on another machine has filled; this one is empty and has no network."""
    profile.pull()
    elsewhere = shutil.copytree(profile.folder, tmp_path / "stick")
    shutil.rmtree(profile.folder)
    profile.server.files.clear()
    return elsewhere


@pytest.fixture
def downloads(profile: Profile, tmp_path: Path) -> Path:
    """A folder of downloads: repositories by name, other files side by side."""
    folder = tmp_path / "downloads"
    unet = folder / REPO.repo / "unet"
    unet.mkdir(parents=True)
    (unet / "big.fp16.safetensors").write_bytes(profile.unet)
    (unet / "config.json").write_bytes(profile.config)
    (folder / "upscaler.pth").write_bytes(profile.server.files[PICKLE_PATH])
    return folder


def assert_complete(profile: Profile) -> None:
    assert verify_fetched(profile.files, profile.folder, profile.package) == ()
    assert (profile.folder / UNET).read_bytes() == profile.unet
    assert not list(profile.folder.rglob("*.pth"))
    assert profile.server.requests == []


def test_a_pulled_folder_is_imported(profile: Profile, pulled: Path) -> None:
    profile.server.requests.clear()
    profile.import_from(pulled)
    assert_complete(profile)


def test_downloads_are_imported_and_converted(profile: Profile, downloads: Path) -> None:
    profile.import_from(downloads)
    assert_complete(profile)
    assert (downloads / "upscaler.pth").exists()


def test_missing_files_are_listed_and_the_rest_is_imported(
    profile: Profile, downloads: Path
) -> None:
    (downloads / "upscaler.pth").unlink()
    (downloads / REPO.repo / CONFIG).unlink()
    with pytest.raises(Incomplete) as error:
        profile.import_from(downloads)
    assert str(error.value) == (
        f"{downloads}: expected 3 files, 2 are missing: unet/config.json (from config.json), "
        "upscaler/x2.safetensors (from upscaler.pth). Add them, and import again."
    )
    assert (profile.folder / UNET).read_bytes() == profile.unet


def test_a_wrong_download_is_refused(profile: Profile, downloads: Path) -> None:
    file = downloads / REPO.repo / "unet" / "big.fp16.safetensors"
    file.write_bytes(b"cut off")
    with pytest.raises(WrongFile, match=rf"^{UNET}: expected sha256 \w+, got sha256 \w+ \(7 bytes"):
        profile.import_from(downloads)
    assert not (profile.folder / UNET).exists()


@pytest.mark.parametrize("path", [UNET, CONFIG, UPSCALER])
def test_a_pulled_folder_that_was_damaged_on_the_way_is_refused(
    profile: Profile, pulled: Path, path: str
) -> None:
    content = (pulled / path).read_bytes()
    (pulled / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WrongFile, match=rf"^{path}: expected sha256 "):
        profile.import_from(pulled)
    assert not (profile.folder / path).exists()


def test_what_is_there_already_is_not_asked_for(profile: Profile, tmp_path: Path) -> None:
    profile.pull()
    (tmp_path / "empty").mkdir()
    profile.import_from(tmp_path / "empty")
    assert profile.events == []
