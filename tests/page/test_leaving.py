"""Requests that are stopped, left behind or cut off on their way."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from http_service import Service
from page_browser import NEEDS_CHROMIUM, Visit
from page_relay import Relay
from playwright.sync_api import Dialog, Route, expect
from sqlalchemy import select

from server.accounts.database import JOBS
from server.types import JobState

# Minutes in all; `make test` sees the page's main ways in `test_ways` and `test_detailing`.
pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

CUT_OFF = r"Failed to load resource: net::ERR_"


def kept_requests(visit: Visit) -> list[dict[str, Any]]:
    """What the browser's database has of requests, pictures aside."""
    return visit.page.evaluate(
        """async () => {
            const [{ name }] = await indexedDB.databases();
            const open = indexedDB.open(name);
            await new Promise((resolve) => (open.onsuccess = resolve));
            const all = open.result.transaction("runs").objectStore("runs").getAll();
            await new Promise((resolve) => (all.onsuccess = resolve));
            open.result.close();
            return all.result.map(({ picture, files, thumbnail, ...rest }) => rest);
        }"""
    )


def assert_nothing_is_done(service: Service, key: str) -> None:
    """The latest request was stopped, its work too if that had begun, and cost nothing."""
    service.until_idle(60)
    assert not service.engine.jobs or service.engine.cancelled.wait(60)
    with service.database.begin() as connection:
        query = select(JOBS.c.state, JOBS.c.cancelled).order_by(JOBS.c.created_ms.desc()).limit(1)
        assert connection.execute(query).one() == (JobState.FAILED, True)
    assert service.credits_of(key) == 10


def test_a_picture_that_was_on_its_way_is_sent_as_the_same_request(
    relayed: Visit, relay: Relay, service: Service, its_key: str, two: Path
) -> None:
    visit = relayed
    visit.expected.append(CUT_OFF)
    relay.answers.clear()
    visit.choose(two)
    visit["#go"].click()
    assert relay.accepted.wait(60)
    visit.page.reload()
    relay.answers.set()
    expect(visit["#outcome"]).to_be_visible()
    expect(visit["#history-list li"]).to_have_count(1)
    assert len(relay.keys) == 2
    assert len(set(relay.keys)) == 1
    assert service.credits_of(its_key) == 9.99


def test_a_request_that_is_cancelled_before_its_id_is_known_costs_nothing(
    relayed: Visit, relay: Relay, service: Service, its_key: str, two: Path
) -> None:
    visit = relayed
    relay.answers.clear()
    visit.choose(two)
    service.engine.dawdle = True
    visit["#go"].click()
    assert relay.accepted.wait(60)
    visit["#cancel"].click()
    expect(visit["#progress-words"]).to_have_text("Cancelling")
    relay.answers.set()
    expect(visit["#note"]).to_have_text("Cancelled. Nothing was charged.")
    expect(visit["#problem"]).to_be_hidden()
    expect(visit["#pictures [data-state]"]).not_to_have_attribute("data-state", "failed")
    assert_nothing_is_done(service, its_key)
    assert kept_requests(visit) == []


def test_a_cancelled_request_stays_so_if_the_page_is_left_meanwhile(
    relayed: Visit, relay: Relay, service: Service, its_key: str, two: Path
) -> None:
    visit = relayed
    visit.expected.append(CUT_OFF)
    relay.answers.clear()
    visit.choose(two)
    service.engine.dawdle = True
    visit["#go"].click()
    assert relay.accepted.wait(60)
    visit["#cancel"].click()
    expect(visit["#progress-words"]).to_have_text("Cancelling")
    with visit.page.expect_response(re.compile("/cancel$")):
        visit.page.reload()
        relay.answers.set()
    expect(visit["#empty"]).to_be_visible()
    assert_nothing_is_done(service, its_key)


def test_a_picture_that_is_not_yet_sent_is_not_sent(
    relayed: Visit, relay: Relay, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(b"\x89PNG" + bytes(40_000_000))
    relay.reads.clear()
    relayed.choose(large)
    relayed["#go"].click()
    expect(relayed["#progress-words"]).to_have_text(re.compile(r"Sending the picture: \d\d? %"))
    relayed["#cancel"].click()
    expect(relayed["#note"]).to_have_text("Cancelled. Nothing was charged.")
    relay.reads.set()
    assert not relay.accepted.wait(1)
    assert kept_requests(relayed) == []


def test_what_is_done_for_a_picture_ends_with_it(
    relayed: Visit, relay: Relay, service: Service, its_key: str, two: Path
) -> None:
    visit = relayed
    relay.answers.clear()
    visit.choose(two)
    service.engine.dawdle = True
    visit["#go"].click()
    assert relay.accepted.wait(60)
    with visit.page.expect_response(re.compile("/cancel$")):
        visit.page.get_by_label(f"Remove {two.name}").click()
        expect(visit["#empty"]).to_be_visible()
        relay.answers.set()
    assert_nothing_is_done(service, its_key)
    expect(visit["#history"]).to_be_hidden()


def test_a_server_that_goes_away_is_waited_for(relayed: Visit, relay: Relay, two: Path) -> None:
    visit = relayed
    visit.expected.append(CUT_OFF)
    visit.choose(two)
    relay.is_away = True
    visit["#go"].click()
    words = "The server cannot be reached. Trying again…"
    expect(visit["#progress-words"]).to_have_text(words)
    relay.is_away = False
    expect(visit["#outcome"]).to_be_visible()
    assert len(set(relay.keys)) == 1


def test_so_is_one_that_goes_away_in_the_middle(
    relayed: Visit, relay: Relay, service: Service, two: Path
) -> None:
    visit = relayed
    visit.expected.append(CUT_OFF)
    visit.choose(two)
    service.engine.dawdle = True
    visit["#go"].click()
    expect(visit["#progress-words"]).to_have_text("Detail pass: face 1 of 1, step 1 of 2")
    relay.is_away = True
    words = "The server cannot be reached. Trying again…"
    expect(visit["#progress-words"]).to_have_text(words)
    visit["#cancel"].click()
    relay.is_away = False
    expect(visit["#note"]).to_have_text("Cancelled. Nothing was charged.")


def test_a_download_that_breaks_is_tried_again(relayed: Visit, relay: Relay, two: Path) -> None:
    visit = relayed
    visit.expected.append(CUT_OFF)
    relay.breaks = True
    visit.choose(two)
    visit["#go"].click()
    words = "The server cannot be reached. Trying again…"
    expect(visit["#progress-words"]).to_have_text(words)
    relay.breaks = False
    expect(visit["#outcome"]).to_be_visible()


def test_a_cancel_that_fails_can_be_repeated(relayed: Visit, service: Service, two: Path) -> None:
    visit, failed = relayed, []
    visit.expected.append(r"Failed to load resource: the server responded with a status of 500")

    def fail_once(route: Route) -> None:
        if failed:
            return route.continue_()
        failed.append(route.request.url)
        return route.fulfill(status=500, json={"error": "Internal Server Error"})

    visit.page.route("**/cancel", fail_once)
    visit.choose(two)
    service.engine.dawdle = True
    visit["#go"].click()
    expect(visit["#progress-words"]).to_contain_text("Detail pass")
    visit["#cancel"].click()
    expect(visit["#problem"]).to_have_text("Internal Server Error")
    expect(visit["#progress-words"]).to_have_text("Not cancelled: it goes on")
    visit["#cancel"].click()
    expect(visit["#note"]).to_have_text("Cancelled. Nothing was charged.")


def test_what_may_have_been_sent_long_ago_is_sent_again_as_the_same_request(
    relayed: Visit, relay: Relay, service: Service, its_key: str, two: Path
) -> None:
    visit = relayed
    relay.answers.clear()
    visit.choose(two)
    visit["#go"].click()
    assert relay.accepted.wait(60)
    visit.page.add_init_script("const now = Date.now; Date.now = () => now() + 11 * 60_000;")
    visit.page.reload()
    words = "This picture may not have been sent before the page was left."
    expect(visit["#note"]).to_have_text(words)
    relay.answers.set()
    visit.detail()
    assert len(relay.keys) == 2
    assert len(set(relay.keys)) == 1
    assert service.credits_of(its_key) == 9.99


# Whether what is deleted makes room at once: Chromium's database of before does, its next does not.
GIVES_ROOM_BACK = """async () => {
  const open = indexedDB.open("probe", 1);
  open.onupgradeneeded = () => open.result.createObjectStore("s");
  const database = await new Promise((resolve) => (open.onsuccess = () => resolve(open.result)));
  const change = (work) => new Promise((resolve) => {
    const transaction = database.transaction("s", "readwrite");
    work(transaction.objectStore("s"));
    transaction.oncomplete = () => resolve(true);
    transaction.onabort = () => resolve(false);
  });
  const large = () => new Blob([new Uint8Array(6e6)]);
  await change((store) => store.put(large(), 1));
  await change((store) => store.delete(1));
  const fits = await change((store) => store.put(large(), 2));
  database.close();
  indexedDB.deleteDatabase("probe");
  return fits;
}"""


def test_the_oldest_result_makes_way_where_the_browser_has_no_room(
    relayed: Visit, tmp_path: Path
) -> None:
    visit = relayed
    names = ["first.bmp", "second.bmp", "third.bmp"]
    for name in names:
        # Of 3 MB; what came of it is kept beside it.
        pixels = np.random.default_rng(1).integers(0, 256, (1000, 1000, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    session = visit.page.context.new_cdp_session(visit.page)
    quota = {"origin": visit.url, "quotaSize": 10_000_000}
    session.send("Storage.overrideQuotaForOrigin", quota)
    if not visit.page.evaluate(GIVES_ROOM_BACK):
        pytest.skip("this browser gives room back only later")
    visit.choose(*(tmp_path / name for name in names))
    visit.set(upscale="1", denoise="0.4")
    for name in names:
        visit["#pictures"].get_by_label(name, exact=True).click()
        visit.detail()
        expect(visit["#history-list .past"].first).to_contain_text(name)
    expect(visit["#history-list .past"].get_by_text("first.bmp")).to_have_count(0)


def test_without_a_place_to_keep_a_request_leaving_is_asked_about(
    relayed: Visit, relay: Relay, service: Service, two: Path
) -> None:
    visit, asked = relayed, []
    service.engine.dawdle = True

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    visit.page.add_init_script("IDBFactory.prototype.open = () => { throw new Error('none'); }")
    visit.page.reload()
    visit.page.on("dialog", stay)
    relay.answers.clear()
    visit.choose(two)
    visit["#go"].click()
    assert relay.accepted.wait(60)
    with visit.page.expect_event("dialog"):
        visit.page.evaluate("setTimeout(() => location.reload())")
    assert asked == ["beforeunload"]
    visit["#cancel"].click()
    relay.answers.set()
    expect(visit["#note"]).to_be_visible()


def test_what_was_typed_is_there_after_a_reload(visit: Visit) -> None:
    visit.set(prompt="half a thou", denoise="0.7", samples="3", seed="", image_format="png")
    visit["#field-keep_grain"].uncheck()
    visit.page.reload()
    expect(visit["#field-prompt"]).to_have_value("half a thou")
    expect(visit["#field-denoise"]).to_have_value("0.7")
    expect(visit["#field-seed"]).to_have_value("")
    expect(visit["#field-keep_grain"]).not_to_be_checked()
    for chosen in ("samples 3", "image_format png"):
        name, value = chosen.split()
        expect(visit[f'[name="{name}"][value="{value}"]']).to_be_checked()
    visit["#more-settings summary"].click()
    visit["#defaults"].click()
    visit.page.reload()
    expect(visit["#field-denoise"]).to_have_value("0.4")
