"""What the page says when a request has ended, and of the account."""

from pathlib import Path

from http_service import Service
from page_browser import NEEDS_CHROMIUM, REFUSED, Visit, visiting
from playwright.sync_api import Browser, expect

from pipeline.report import FaceIdentity, Report
from server.types import EngineState

pytestmark = NEEDS_CHROMIUM

NOTE = "Of guidance_scale, seed and num_inference_steps this profile knows nothing."


def test_a_profiles_note_speaks_the_pages_words(
    relayed: Visit, service: Service, two: Path
) -> None:
    service.engine.report = Report(found=1, detailed=1, note=NOTE)
    relayed.choose(two)
    relayed.detail()
    words = "Of guidance scale, seed and num inference steps this profile knows nothing."
    expect(relayed["#outcome-words"]).to_contain_text(words)


def test_what_the_identity_gate_did_is_said(relayed: Visit, service: Service, two: Path) -> None:
    judged = (FaceIdentity(1, 1, 0.7, "weaker"), FaceIdentity(2, 1, 0.2, "left"))
    service.engine.report = Report(found=2, detailed=1, identity=judged)
    relayed.choose(two)
    relayed.detail()
    words = relayed["#outcome-words"]
    expect(words).to_contain_text("1 repainted more weakly, to stay the same person")
    expect(words).to_contain_text("1 left as it was: repainted, it was no longer the same person")


def test_what_was_not_read_is_shown_to_who_asks(
    relayed: Visit, service: Service, two: Path
) -> None:
    unread = "and a very long end " * 40
    service.engine.report = Report(found=1, detailed=1, unread=(unread,))
    relayed.choose(two)
    relayed.detail()
    summary = relayed["#outcome-words summary"]
    expect(summary).to_have_text("The prompt is too long: the model did not read its end")
    text = relayed.page.get_by_text("and a very long end")
    expect(text).to_be_hidden()
    summary.click()
    expect(text).to_be_visible()


def test_an_account_without_credits_is_told_so(
    browser: Browser, service: Service, two: Path
) -> None:
    with visiting(browser, service.url) as visit:
        visit.expected.append(REFUSED)
        visit.use_key(service.new_key("0"))
        expect(visit["#credits"]).to_have_text("0 credits left")
        visit.choose(two)
        visit["#go"].click()
        expect(visit["#problem"]).to_have_text("Not enough credits")
        expect(visit["#go"]).to_have_attribute("aria-disabled", "false")


def test_a_server_that_only_starts_is_waited_for(
    relayed: Visit, service: Service, two: Path
) -> None:
    relayed.expected.append(r".*status of 503")
    service.engine.state = EngineState.DEAD
    relayed.choose(two)
    relayed["#go"].click()
    words = "No worker is available. Trying again…"
    expect(relayed["#progress-words"]).to_have_text(words)
    relayed["#cancel"].click()
    expect(relayed["#note"]).to_have_text("Cancelled. Nothing was charged.")
    service.engine.state = EngineState.READY
    relayed.detail()
