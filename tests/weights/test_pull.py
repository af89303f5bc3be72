"""Pulling: what it leaves behind, what it keeps, what it records; several processes."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from small_profile import CONFIG_PATH, PICKLE_PATH, SITE, UNET_PATH, Profile

from weights.errors import PullError

UNET = "unet/big.safetensors"
CONFIG = "unet/config.json"
UPSCALER = "upscaler/x2.safetensors"


def stored(profile: Profile) -> list[str]:
    """Every visible file of the profile's folder."""
    found = (file.relative_to(profile.folder) for file in profile.folder.rglob("*"))
    shown = [p for p in found if (profile.folder / p).is_file() and p.parts[0] != ".parts"]
    return sorted(p.as_posix() for p in shown)


# --- all is well ---


def test_a_pull_leaves_a_complete_profile_and_no_pickle(profile: Profile) -> None:
    profile.pull()
    assert stored(profile) == sorted(
        [UNET, CONFIG, UPSCALER, "lock.json", "profile.toml", "segmenter/vit_b.json"]
    )
    assert (profile.folder / UNET).read_bytes() == profile.unet
    assert (profile.folder / CONFIG).read_bytes() == profile.config
    upscaler = load_file(profile.folder / UPSCALER)
    assert upscaler.keys() == profile.upscaler.keys()
    for name, tensor in profile.upscaler.items():
        assert torch.equal(upscaler[name], tensor)
        assert upscaler[name].dtype == tensor.dtype
    assert profile.problems() == []
    assert [f.name for f in (profile.folder / ".parts").iterdir()] == ["lock"]


def test_a_second_pull_asks_for_nothing(profile: Profile) -> None:
    profile.pull()
    profile.server.requests.clear()
    profile.pull()
    assert profile.server.requests == []
    assert profile.events == []


def test_progress_is_told_in_bytes(profile: Profile) -> None:
    profile.only(UNET)
    profile.pull()
    fetching = [event for event in profile.events if event.stage == "fetching"]
    assert {event.path for event in fetching} == {UNET}
    assert fetching[-1].done_bytes == fetching[-1].total_bytes == 300_000
    assert profile.events[-1].stage == "done"


def test_a_mirror_of_the_hub_and_one_of_a_site_are_used(profile: Profile) -> None:
    profile.server.files[f"/a/hub{UNET_PATH}"] = profile.unet
    profile.only(UNET)
    profile.pull(hub_endpoint=f"{profile.server.url}/a/hub")
    assert profile.server.paths() == [f"/a/hub{UNET_PATH}"]


def test_the_longest_fitting_mirror_counts(profile: Profile) -> None:
    profile.server.files["/special/upscaler.pth"] = profile.server.files[PICKLE_PATH]
    profile.only(UPSCALER)
    url = profile.server.url
    profile.pull(
        prefixes=((SITE.prefix, f"{url}/"), (f"{SITE.prefix}v1/", f"{url}/special/")),
    )
    assert profile.server.paths() == ["/special/upscaler.pth"]


# --- a file for which the manifest has another hash by now ---


def test_a_new_version_of_it_is_another_file(profile: Profile) -> None:
    profile.pull()
    old, new = profile.config, b'{"in_channels": 4}'
    digests = [hashlib.sha256(content).hexdigest() for content in (new, old)]
    profile.change(CONFIG, sha256=digests[0], bytes=len(new))
    assert profile.problems() == [
        f"{CONFIG}: expected one made from sha256 {digests[0]}, "
        f"got one made from sha256 {digests[1]}"
    ]
    profile.server.files[CONFIG_PATH] = new
    profile.pull()
    assert (profile.folder / CONFIG).read_bytes() == new
    assert profile.problems() == []


def test_a_page_that_an_earlier_version_took_for_a_file_is_found_and_mended(
    profile: Profile,
) -> None:
    """Earlier versions recorded the hash of what came first."""
    right = list(profile.files)
    page = b"<html>Please sign in</html>"
    profile.server.files[CONFIG_PATH] = page
    profile.change(CONFIG, sha256=hashlib.sha256(page).hexdigest(), bytes=len(page))
    profile.pull()
    assert profile.problems() == []
    profile.files = right
    (problem,) = profile.problems()
    assert problem.startswith(f"{CONFIG}: expected one made from sha256 {right[1].sha256}, got ")
    profile.server.files[CONFIG_PATH] = profile.config
    profile.pull()
    assert (profile.folder / CONFIG).read_bytes() == profile.config
    assert profile.problems() == []


# --- damage afterwards ---


@pytest.mark.parametrize("path", [UNET, CONFIG, UPSCALER])
def test_a_changed_file_is_found_and_mended(profile: Profile, path: str) -> None:
    profile.pull()
    file = profile.folder / path
    right = file.read_bytes()
    file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    (problem,) = profile.problems()
    assert problem.startswith(f"{path}: expected sha256 ")
    profile.pull()
    assert file.read_bytes() == right
    assert profile.problems() == []


def test_what_is_missing_or_unknown_is_named(profile: Profile) -> None:
    profile.pull()
    (profile.folder / UNET).unlink()
    (profile.folder / "profile.toml").unlink()
    lock = json.loads((profile.folder / "lock.json").read_text())
    del lock["files"][UPSCALER]
    (profile.folder / "lock.json").write_text(json.dumps(lock))
    assert profile.problems() == [
        f"{UNET}: expected a file, got none",
        f"{UPSCALER}: expected a file that was pulled or imported, got an unknown file",
        "profile.toml: expected a file, got none",
    ]


def test_a_right_file_that_was_put_there_by_hand_is_taken_over(profile: Profile) -> None:
    profile.only(UNET)
    (profile.folder / "unet").mkdir(parents=True)
    (profile.folder / UNET).write_bytes(profile.unet)
    profile.pull()
    assert profile.server.requests == []
    assert profile.problems() == []


def test_a_damaged_lock_file_is_one_sentence(profile: Profile) -> None:
    profile.pull()
    (profile.folder / "lock.json").write_text("{")
    with pytest.raises(PullError, match=r"lock\.json cannot be read: .*Delete it, and pull again"):
        profile.pull()


def test_a_changed_profile_file_is_kept_and_an_unchanged_one_follows_the_package(
    profile: Profile,
) -> None:
    profile.pull()
    (profile.package / "profile.toml").write_text('name = "second"\n')
    profile.pull()
    mine = profile.folder / "profile.toml"
    assert mine.read_text() == 'name = "second"\n'
    mine.write_text('name = "mine"\n')
    (profile.package / "profile.toml").write_text('name = "third"\n')
    profile.pull()
    assert mine.read_text() == 'name = "mine"\n'
    assert [(e.path, e.stage) for e in profile.events] == [("profile.toml", "kept")]
    assert profile.problems() == []


# --- processes ---

_PULL = """
import sys
from pathlib import Path
from weights.download import Patience
from weights.pull import pull
from weights.sources import Download, Hub, Mirrors
url, folder, package, sha256 = sys.argv[1:]
hub = Hub("someone/inpainting", "0" * 40)
name = "unet/big.fp16.safetensors"
file = Download("unet/big.safetensors", name, hub, "MIT", bytes=300_000, sha256=sha256)
def tell(event): print(event.stage, flush=True)
pull([file], Path(folder), Path(package), Mirrors(url), Patience(timeout_s=30), tell)
"""


def start_pull(profile: Profile) -> "subprocess.Popen[str]":
    arguments = [profile.server.url, profile.folder, profile.package, profile.files[0].sha256]
    command = [sys.executable, "-c", _PULL, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_fetch_once(profile: Profile) -> None:
    profile.only(UNET)
    profile.server.behaviours[UNET_PATH] = ["hold"]
    with start_pull(profile) as first:
        while not profile.server.requests:
            assert first.poll() is None
            time.sleep(0.02)
        with start_pull(profile) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting\n"
            profile.server.released.set()
            said = second.communicate(timeout=60)[0]
        first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert said == ""
    assert profile.server.paths() == [UNET_PATH]
    assert profile.problems() == []


def test_a_killed_pull_is_gone_on_with_by_the_next(profile: Profile) -> None:
    profile.only(UNET)
    profile.server.behaviours[UNET_PATH] = ["stall 200000"]
    with start_pull(profile) as killed:
        deadline = time.monotonic() + 60
        parts = profile.folder / ".parts"
        while not any(f.stat().st_size >= 190_000 for f in parts.glob("*big*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=10)
    profile.pull()
    first, second = profile.server.ranges(UNET_PATH)
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) >= 190_000
    assert profile.problems() == []
