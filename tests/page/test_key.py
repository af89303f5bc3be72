"""The API key: asked for, brought by the address, refused, forgotten."""

from pathlib import Path

import pytest
from page_browser import NEEDS_CHROMIUM, REFUSED, Visit
from playwright.sync_api import expect

pytestmark = NEEDS_CHROMIUM

KEPT = "localStorage.getItem('face-detailer:/:key')"
UNAUTHORIZED = "Unauthorized. API key is invalid or may have expired"


def test_without_a_key_it_is_asked_for_and_a_wrong_one_is_not_kept(
    visit: Visit, key: str, two: Path
) -> None:
    visit.expected.append(REFUSED)
    visit.choose(two)
    # It is at work long enough to be cancelled.
    visit.set(samples="4", upscale="4", num_inference_steps="75")
    visit["#go"].click()
    expect(visit["#key-dialog"]).to_be_visible()
    visit["#key"].fill("SG_wrong")
    visit["#key-save"].click()
    expect(visit["#key-error"]).to_have_text(UNAUTHORIZED)
    assert visit.page.evaluate(KEPT) is None
    visit["#key"].fill(key)
    visit["#key-save"].click()
    expect(visit["#key-dialog"]).to_be_hidden()
    expect(visit["#progress"]).to_be_visible()
    visit["#cancel"].click()
    expect(visit["#progress"]).to_be_hidden()
    assert not [url for url in visit.asked if key in url]


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_key_is_asked_for_in_a_sentence(visit: Visit, blank: str) -> None:
    visit["#key-button"].click()
    visit["#key"].fill(blank)
    visit["#key-save"].click()
    expect(visit["#key-error"]).to_have_text("Type or paste a key first.")
    expect(visit["#key"]).to_be_focused()


def test_a_key_that_is_no_longer_good_is_asked_for_again(visit: Visit) -> None:
    visit.expected.append(REFUSED)
    visit.page.evaluate("localStorage.setItem('face-detailer:/:key', 'SG_revoked')")
    visit.page.reload()
    expect(visit["#key-error"]).to_have_text(UNAUTHORIZED)
    visit["#key-forget"].click()
    expect(visit["#key-button"]).to_have_text("Set API key")
    assert visit.page.evaluate("localStorage.length") == 0


def test_a_key_behind_the_address_is_taken(visit: Visit, key: str) -> None:
    visit.page.goto("about:blank")
    visit.page.goto(f"{visit.url}/#key={key}")
    expect(visit["#key-button"]).to_have_text("API key")
    expect(visit["#credits"]).to_be_visible()
    assert visit.page.url == f"{visit.url}/"
    # The credits are told as soon as they are known, a moment before the key is kept.
    visit.page.wait_for_function(f"key => {KEPT} === key", arg=key)
    # A kept one that is good is not replaced unasked.
    visit.page.goto(f"{visit.url}/#key=SG_other")
    expect(visit["#key-error"]).to_contain_text("The address brought another key")
    expect(visit["#key"]).to_have_value("SG_other")
    visit["#key-cancel"].click()
    assert visit.page.evaluate(KEPT) == key


def test_it_is_taken_where_the_page_is_open_already(visit: Visit, key: str, two: Path) -> None:
    visit.expected.append(REFUSED)
    visit.page.evaluate("localStorage.setItem('face-detailer:/:key', 'SG_revoked')")
    visit.page.reload()
    expect(visit["#key-error"]).to_have_text(UNAUTHORIZED)
    visit.choose(two)
    visit.page.goto(f"{visit.url}/#key=SG_wrong")
    expect(visit["#key"]).to_have_value("SG_wrong")
    expect(visit["#key-error"]).to_have_text(UNAUTHORIZED)
    visit.page.goto(f"{visit.url}/#key={key}")
    expect(visit["#key-dialog"]).to_be_hidden()
    expect(visit["#credits"]).to_be_visible()
    expect(visit["#pictures li"]).to_have_count(1)
    assert visit.page.url == f"{visit.url}/"
    assert visit.page.evaluate(KEPT) == key
