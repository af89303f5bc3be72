"""Pulling from a server that cuts, corrupts, stalls, redirects, serves ranges and ignores them."""

import email.utils
import hashlib
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from file_server import FileServer, serving_files
from huggingface_hub import constants
from small_profile import CONFIG_PATH, PICKLE_PATH, UNET_PATH, Profile, pickled

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
    profile.patience = replace(profile.patience, timeout_s=0.5)
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


def test_a_part_that_is_all_there(profile: Profile) -> None:
    """Killed between the last byte and the rename."""
    profile.only(UNET)
    parts = profile.folder / ".parts"
    parts.mkdir(parents=True)
    part = parts / f"{profile.files[0].sha256[:16]}-big.fp16.safetensors"
    part.write_bytes(profile.unet)
    profile.pull()
    assert profile.server.requests == []
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


@pytest.mark.parametrize("refusal", ["429 1", "503 1", "limited 1"])
def test_a_server_that_says_when_is_asked_then(profile: Profile, refusal: str) -> None:
    """By `Retry-After`, or by the hub's `RateLimit`; and the waiting is told."""
    profile.server.behaviours[UNET_PATH] = [refusal]
    profile.only(UNET)
    started = time.monotonic()
    profile.pull()
    assert 1 <= time.monotonic() - started < 10
    assert [event.wait_s for event in profile.events if event.stage == "pausing"] == [1.0]
    assert profile.problems() == []


@pytest.mark.slow
def test_a_server_that_says_a_date_is_asked_then(profile: Profile) -> None:
    soon = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)
    profile.server.behaviours[UNET_PATH] = [f"429 {soon}"]
    profile.only(UNET)
    profile.pull()
    (pause,) = (event.wait_s for event in profile.events if event.stage == "pausing")
    assert 0 < pause <= 4


@pytest.mark.parametrize("refusal", ["429 3600", "limited 3600"])
def test_a_server_that_wants_an_hour_is_left_alone(profile: Profile, refusal: str) -> None:
    profile.server.behaviours[UNET_PATH] = [refusal]
    profile.only(UNET)
    with pytest.raises(NoAnswer, match=r"got HTTP 429 .*\. It asks to wait 3600 s: run"):
        profile.pull()
    assert len(profile.server.requests) == 1


# --- the hub's token ---


@pytest.fixture
def hub(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The profile's server is the hub itself."""
    url = profile.server.url
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "geheim")
    return profile.server


def test_the_token_goes_to_the_hub_and_not_to_a_site(profile: Profile, hub: FileServer) -> None:
    profile.pull()
    assert hub.paths() == [UNET_PATH, CONFIG_PATH, PICKLE_PATH]
    assert hub.authorizations == ["Bearer geheim", "Bearer geheim", None]


def test_the_token_does_not_follow_a_redirect(profile: Profile, hub: FileServer) -> None:
    """The hub redirects to the servers that store its files."""
    with serving_files() as store:
        store.files["/x"] = profile.unet
        hub.behaviours[UNET_PATH] = [f"redirect {store.url}/x"]
        profile.only(UNET)
        profile.pull()
        assert hub.authorizations == ["Bearer geheim"]
        assert store.authorizations == [None]
    assert profile.problems() == []


def test_the_token_does_not_go_to_a_mirror(profile: Profile, hub: FileServer) -> None:
    with serving_files() as mirror:
        mirror.files = hub.files
        profile.only(UNET)
        profile.pull(hub_endpoint=mirror.url)
        assert mirror.authorizations == [None]
    assert hub.requests == []


# --- what cannot be had ---


def test_a_file_that_is_not_there_is_one_sentence_and_asked_for_once(profile: Profile) -> None:
    del profile.server.files[UNET_PATH]
    with pytest.raises(NoAnswer) as error:
        profile.pull()
    assert str(error.value) == (
        f"unet/big.safetensors: expected the file from {profile.server.url}{UNET_PATH}, "
        "got HTTP 404 Not Found. If that address is a mirror, check that it has this file and "
        "grants you access."
    )
    assert profile.server.paths() == [UNET_PATH]


def test_a_dead_server_is_one_sentence(profile: Profile) -> None:
    with pytest.raises(NoAnswer, match=r"got no complete answer: .*refused.*set a mirror"):
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
    with pytest.raises(WrongFile, match=r"expected 300000 bytes from .*, got a file of 27"):
        profile.pull()
    assert not list((profile.folder / "unet").glob("*"))


@pytest.mark.parametrize("page", ["<html>Sign in</html>", "<html></html>    "])
def test_a_proxys_page_in_place_of_a_small_file_is_refused(profile: Profile, page: str) -> None:
    """With status 200, of another size or of the same."""
    content = page.encode()
    if page.endswith(" "):
        content = content.ljust(len(profile.config))[: len(profile.config)]
    right = profile.server.files[CONFIG_PATH]
    profile.server.files[CONFIG_PATH] = content
    profile.only(CONFIG)
    with pytest.raises(WrongFile, match=r"^unet/config.json: expected (sha256|18 bytes)"):
        profile.pull()
    assert not (profile.folder / CONFIG).exists()
    profile.server.files[CONFIG_PATH] = right
    profile.pull()
    assert profile.problems() == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(profile: Profile) -> None:
    profile.change(UNET, bytes=10**18)
    with pytest.raises(NoSpace, match=r"expected 1000000000\.00 GB free for .*, got \d+\.\d\d GB"):
        profile.pull()
    assert profile.server.requests == []


def test_a_folder_that_cannot_be_made_is_one_sentence(profile: Profile) -> None:
    profile.folder.parent.write_text("no folder")
    with pytest.raises(PullError, match=r"cannot be used: .*Fix this, and try again\.$"):
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
        "upscaler/x2.safetensors: expected only weights in the checkpoint, got posix.system."
    )
    assert not (tmp_path / "ran").exists()
    assert not list(profile.folder.rglob("*.pth"))
