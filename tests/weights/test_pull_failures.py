"""Pulling from a server that cuts, corrupts, stalls, redirects, serves ranges and ignores them."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from small_profile import PICKLE_PATH, UNET_PATH, Profile, pickled

from weights.errors import BadPickle, NoAnswer, NoSpace, PullError, WrongFile

UNET = "unet/big.safetensors"
CONFIG = "unet/config.json"
UPSCALER = "upscaler/x2.safetensors"


# --- cuts, stalls, ranges ---


def test_a_cut_goes_on_where_it_stopped(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "cut 50000"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=100000-", "bytes=150000-"]
    assert profile.server.sent == len(profile.unet)
    assert profile.problems() == []


def test_many_cuts_are_stood_as_long_as_bytes_arrive(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 30000"] * 9
    profile.only(UNET)
    profile.pull()
    assert len(profile.server.requests) == 10
    assert profile.problems() == []


def test_cuts_without_a_byte_are_given_up_and_the_part_is_kept(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "cut 0", "cut 0", "cut 0"]
    profile.only(UNET)
    with pytest.raises(NoAnswer, match=r"^unet/big.safetensors: expected the file from http.*run"):
        profile.pull()
    assert not (profile.folder / UNET).exists()
    profile.server.requests.clear()
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == ["bytes=100000-"]
    assert profile.problems() == []


def test_an_answer_without_length_that_ends_early_goes_on(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["short 1000"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=1000-"]
    assert profile.problems() == []


def test_a_stall_ends_after_the_time_limit_and_goes_on(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["stall 1000"]
    profile.only(UNET)
    started = time.monotonic()
    profile.pull()
    assert 0.4 < time.monotonic() - started < 10
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=1000-"]
    assert profile.problems() == []


def test_a_server_that_ignores_ranges_sends_the_file_anew(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "whole"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.sent == 100_000 + len(profile.unet)
    assert profile.problems() == []


def test_a_wrong_range_is_not_appended(profile: Profile) -> None:
    profile.server.behaviours[UNET_PATH] = ["cut 100000", "shifted"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=100000-", None]
    assert profile.problems() == []


@pytest.mark.parametrize(
    ("exact", "ranges"), [(True, []), (False, ["bytes=300000-", None])], ids=["exact", "roughly"]
)
def test_a_part_that_is_all_there(profile: Profile, exact: bool, ranges: list[str | None]) -> None:
    """Killed between the last byte and the rename. Of unknown size, only the server knows."""
    profile.only(UNET)
    parts = profile.folder / ".parts"
    parts.mkdir(parents=True)
    part = parts / f"{(profile.files[0].sha256 or '')[:16]}-big.fp16.safetensors"
    part.write_bytes(profile.unet)
    if not exact:
        profile.change(UNET, bytes=None, about_bytes=200_000)
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == ranges
    assert profile.problems() == []


def test_a_file_of_roughly_known_size_resumes_too(profile: Profile) -> None:
    profile.only(UNET)
    profile.change(UNET, bytes=None, about_bytes=200_000)
    profile.server.behaviours[UNET_PATH] = ["cut 250000"]
    profile.pull()
    assert profile.server.ranges(UNET_PATH) == [None, "bytes=250000-"]
    assert profile.problems() == []


def test_a_redirect_is_followed_with_the_range(profile: Profile) -> None:
    profile.server.files["/store/x"] = profile.unet
    profile.server.behaviours[UNET_PATH] = ["redirect /store/x"] * 2
    profile.server.behaviours["/store/x"] = ["cut 1000"]
    profile.only(UNET)
    profile.pull()
    assert profile.server.ranges("/store/x") == [None, "bytes=1000-"]
    assert profile.problems() == []


@pytest.mark.parametrize("status", ["500", "503", "429 0", "408"])
def test_a_passing_refusal_is_tried_again(profile: Profile, status: str) -> None:
    profile.server.behaviours[UNET_PATH] = [status]
    profile.only(UNET)
    profile.pull()
    assert profile.problems() == []


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
