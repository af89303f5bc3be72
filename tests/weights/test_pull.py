"""Pulling from a server that cuts, corrupts, stalls, redirects, serves ranges and ignores them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_profile import CONFIG_PATH, PICKLE_PATH, SITE, UNET_PATH, Profile, pickled

from weights.errors import BadPickle, NoAnswer, NoSpace, PullError, WrongFile
from weights.records import verify_fetched
from weights.sources import Hub

UNET = "unet/big.safetensors"
CONFIG = "unet/config.json"
UPSCALER = "upscaler/x2.safetensors"


def problems(profile: Profile) -> list[str]:
    return [str(p) for p in verify_fetched(profile.files, profile.folder, profile.package)]


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
    assert problems(profile) == []
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


# --- cuts, stalls, ranges ---


def test_a_cut_goes_on_where_it_stopped(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "cut 50000"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=100000-", "bytes=150000-"]
    assert profile.server.sent == len(profile.unet)
    assert problems(profile) == []


def test_many_cuts_are_stood_as_long_as_bytes_arrive(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 30000"] * 9
    profile.only(UNET)
    profile.pull()
    assert len(profile.server.requests) == 10
    assert problems(profile) == []


def test_cuts_without_a_byte_are_given_up_and_the_part_is_kept(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "cut 0", "cut 0", "cut 0"]
    profile.only(UNET)
    with pytest.raises(NoAnswer, match=r"^unet/big.safetensors: expected the file from http.*run"):
        profile.pull()
    assert not (profile.folder / UNET).exists()
    profile.server.requests.clear()
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == ["bytes=100000-"]
    assert problems(profile) == []


def test_an_answer_without_length_that_ends_early_goes_on(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["short 1000"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=1000-"]
    assert problems(profile) == []


def test_a_stall_ends_after_the_time_limit_and_goes_on(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["stall 1000"]
    profile.only(UNET)
    started = time.monotonic()
    profile.pull()
    assert 0.4 < time.monotonic() - started < 10
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=1000-"]
    assert problems(profile) == []


def test_a_server_that_ignores_ranges_sends_the_file_anew(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "whole"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.sent == 100_000 + len(profile.unet)
    assert problems(profile) == []


def test_a_wrong_range_is_not_appended(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "shifted"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=100000-", None]
    assert problems(profile) == []


def test_a_part_that_is_all_there_needs_no_request_and_one_of_unknown_size_is_checked(
    profile: Profile,
) -> None:
    profile.only(UNET)
    profile.server.behaviours[UNET_PATH] = ["stall 300000", "stall 0", "stall 0"]
    profile.change(UNET, bytes=None, about_bytes=299_000)
    profile.pull()
    assert problems(profile) == []


def test_a_file_of_roughly_known_size_resumes_too(profile: Profile) -> None:
    profile.only(UNET)
    profile.change(UNET, bytes=None, about_bytes=200_000)
    profile.server.behaviours[UNET_PATH] = ["cut 250000"]
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=250000-"]
    assert problems(profile) == []


def test_a_redirect_is_followed_with_the_range(profile: Profile) -> None:
    profile.server.files["/store/x"] = profile.unet
    profile.server.behaviours[UNET_PATH] = ["redirect /store/x"] * 2
    profile.server.behaviours["/store/x"] = ["cut 1000"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges("/store/x") == [None, "bytes=1000-"]
    assert problems(profile) == []


@pytest.mark.parametrize("status", ["500", "503", "429 0", "408"])
def test_a_passing_refusal_is_tried_again(profile: Profile, status: str) -> None:
    profile.server.behaviours[UNET_PATH] = [status]
    profile.only(UNET)
    profile.pull()
    assert problems(profile) == []


def test_a_server_that_says_when_is_asked_then(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["429 1"]
    profile.only(UNET)
    started = time.monotonic()
    profile.pull()
    assert time.monotonic() - started >= 1


# --- what cannot be had ---


def test_a_file_that_is_not_there_is_one_sentence_and_asked_for_once(profile: Profile) -> None:
    del profile.server.files[UNET_PATH]
    with pytest.raises(NoAnswer) as error:
        profile.pull()
    assert str(error.value) == (
        f"unet/big.safetensors: expected the file from {profile.server.url}{UNET_PATH}, "
        "got HTTP 404 Not Found. If that address is a mirror, see that it has this file and "
        "lets you in."
    )
    assert profile.server.paths() == [UNET_PATH]


def test_a_dead_server_is_one_sentence(profile: Profile) -> None:
    with pytest.raises(NoAnswer, match=r"got no answer that lasts: .*refused.*set a mirror"):
        profile.pull(hub_endpoint="http://127.0.0.1:1")


def test_a_password_in_a_mirror_is_used_and_not_shown(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["403"]
    profile.only(UNET)
    secret = profile.server.url.replace("://", "://user:geheim@")
    with pytest.raises(NoAnswer) as error:
        profile.pull(hub_endpoint=secret)
    assert "geheim" not in str(error.value)
    assert profile.server.url in str(error.value)


def test_a_corrupted_file_is_refused_and_the_old_one_stays(profile: Profile) -> None:
    profile.only(UNET)
    old = profile.folder / UNET
    old.parent.mkdir(parents=True)
    old.write_bytes(b"an older version")
    profile.server.behaviours[UNET_PATH] = ["corrupt"]
    with pytest.raises(WrongFile) as error:
        profile.pull()
    wanted = profile.files[0].sha256
    assert str(error.value).startswith(f"{UNET}: expected sha256 {wanted}, got sha256 ")
    assert f"(300000 bytes) from {profile.server.url}" in str(error.value)
    assert old.read_bytes() == b"an older version"
    profile.pull()
    assert old.read_bytes() == profile.unet
    # From the start: the corrupted part is gone.
    assert profile.server.ranges(UNET_PATH) == [None, None]


def test_another_size_is_found_out_before_the_bytes_are_sent(profile: Profile) -> None:
    profile.only(UNET)
    profile.server.files[UNET_PATH] = b"<html>Please sign in</html>"
    with pytest.raises(WrongFile, match=r"expected 300000 bytes from .*, got an offer of 27"):
        profile.pull()
    assert not list((profile.folder / "unet").glob("*"))


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(profile: Profile) -> None:
    profile.change(UNET, bytes=10**18)
    with pytest.raises(NoSpace, match=r"expected 1000000000\.00 GB free for .*, got \d+\.\d\d GB"):
        profile.pull()
    assert profile.server.requests == []


def test_a_folder_that_cannot_be_made_is_one_sentence(profile: Profile) -> None:
    profile.folder.parent.write_text("no folder")
    with pytest.raises(PullError, match=r"cannot be used: .*See to it, and try again\.$"):
        profile.pull()


def test_a_pickle_that_would_run_code_is_refused_and_gone(profile: Profile, tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    checkpoint = pickled({"params": Malice()})
    profile.server.files[PICKLE_PATH] = checkpoint
    profile.only(UPSCALER)
    digest = hashlib.sha256(checkpoint).hexdigest()
    profile.change(UPSCALER, sha256=digest, bytes=len(checkpoint))
    with pytest.raises(BadPickle) as error:
        profile.pull()
    assert str(error.value) == (
        "upscaler/x2.safetensors: expected weights alone in the checkpoint, got posix.system."
    )
    assert not (tmp_path / "ran").exists()
    assert not list(profile.folder.rglob("*.pth"))


# --- hashes that are recorded the first time ---


def test_a_file_of_unknown_hash_must_stay_the_same(profile: Profile) -> None:
    profile.pull()
    (profile.folder / CONFIG).unlink()
    profile.server.files[CONFIG_PATH] = b'{"in_channels": 4}'
    with pytest.raises(WrongFile, match=r"^unet/config.json: expected sha256 \w{64}, got sha256"):
        profile.pull()
    profile.server.files[CONFIG_PATH] = profile.config
    profile.pull()
    assert problems(profile) == []


def test_a_new_revision_of_it_is_another_file(profile: Profile) -> None:
    profile.pull()
    later = Hub("someone/inpainting", "1" * 40)
    profile.change(CONFIG, source=later)
    assert problems(profile) == [
        f"{CONFIG}: expected one made from someone/inpainting@{'1' * 40}/{CONFIG}, "
        f"got one made from someone/inpainting@{'0' * 40}/{CONFIG}"
    ]
    path = f"/{later.repo}/resolve/{later.revision}/{CONFIG}"
    profile.server.files[path] = b'{"in_channels": 4}'
    profile.pull()
    assert (profile.folder / CONFIG).read_bytes() == b'{"in_channels": 4}'
    assert problems(profile) == []


# --- damage afterwards ---


@pytest.mark.parametrize("path", [UNET, CONFIG, UPSCALER])
def test_a_changed_file_is_found_and_mended(profile: Profile, path: str) -> None:
    profile.pull()
    file = profile.folder / path
    right = file.read_bytes()
    file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    (problem,) = problems(profile)
    assert problem.startswith(f"{path}: expected sha256 ")
    profile.pull()
    assert file.read_bytes() == right
    assert problems(profile) == []


def test_what_is_missing_or_unknown_is_named(profile: Profile) -> None:
    profile.pull()
    (profile.folder / UNET).unlink()
    (profile.folder / "profile.toml").unlink()
    lock = json.loads((profile.folder / "lock.json").read_text())
    del lock["files"][UPSCALER]
    (profile.folder / "lock.json").write_text(json.dumps(lock))
    assert problems(profile) == [
        f"{UNET}: expected a file, got none",
        f"{UPSCALER}: expected a file that was pulled or imported, got an unknown one",
        "profile.toml: expected a file, got none",
    ]


def test_a_right_file_that_was_put_there_by_hand_is_taken_over(profile: Profile) -> None:
    profile.only(UNET)
    (profile.folder / "unet").mkdir(parents=True)
    (profile.folder / UNET).write_bytes(profile.unet)
    profile.pull()
    assert profile.server.requests == []
    assert problems(profile) == []


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
    assert problems(profile) == []


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
    assert problems(profile) == []


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
    assert problems(profile) == []
