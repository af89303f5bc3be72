"""The keyboard's focus stays where it was, whatever is drawn anew."""

from pathlib import Path

import pytest
from http_service import Service
from page_browser import NEEDS_CHROMIUM, Visit
from playwright.sync_api import expect

# Minutes in all; `make test` sees the page's main ways in `test_ways` and `test_detailing`.
pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


def press(visit: Visit, selector: str, key: str = "Enter") -> None:
    visit[selector].focus()
    visit.page.keyboard.press(key)


def test_it_stays_on_what_is_drawn_anew(relayed: Visit, two: Path, tmp_path: Path) -> None:
    visit = relayed
    other, third = tmp_path / "other.png", tmp_path / "third.png"
    for file in (other, third):
        file.write_bytes(two.read_bytes())
    visit.choose(two, other, third)
    visit.set(samples="2")

    # While a request is sent and when it is done.
    press(visit, "#go")
    expect(visit["#outcome"]).to_be_visible()
    expect(visit["#history-list li"]).to_have_count(1)
    expect(visit["#go"]).to_be_focused()

    press(visit, '[aria-label="Sample 2"]')
    expect(visit['[aria-label="Sample 2"]']).to_have_attribute("aria-pressed", "true")
    expect(visit['[aria-label="Sample 2"]']).to_be_focused()

    press(visit, '[aria-label="other.png"]')
    expect(visit["#title"]).to_contain_text("other.png")
    expect(visit['[aria-label="other.png"]']).to_be_focused()

    # What is gone leaves it to what stands in its place.
    press(visit, '[aria-label="Remove other.png"]')
    expect(visit['[aria-label="Remove third.png"]']).to_be_focused()
    press(visit, '[aria-label="Remove third.png"]')
    expect(visit["#pictures li"]).to_have_count(1)
    press(visit, f'[aria-label="Remove {two.name}"]')
    expect(visit["#choose"]).to_be_focused()

    # In the code's dialog, and back where that was opened.
    visit.choose(two)
    press(visit, "#copy-call")
    press(visit, '[aria-label="Python"]')
    expect(visit['[aria-label="Python"]']).to_be_focused()
    visit.page.keyboard.press("Escape")
    expect(visit["#copy-call"]).to_be_focused()


def test_cancelling_leaves_it_at_what_can_be_done_next(
    relayed: Visit, service: Service, two: Path
) -> None:
    service.engine.dawdle = True
    relayed.choose(two)
    press(relayed, "#go")
    expect(relayed["#progress-words"]).to_contain_text("Detail pass")
    press(relayed, "#cancel")
    expect(relayed["#note"]).to_be_visible()
    expect(relayed["#go"]).to_be_focused()


def test_faces_keep_it_and_each_picture_has_its_own_help(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two, two)
    press(visit, "#find")
    expect(visit[".box"]).to_have_count(2)
    expect(visit["#find"]).to_be_focused()
    press(visit, '.box[aria-label="Detail face 2"]', "Space")
    expect(visit['.box[aria-label="Detail face 2"]']).to_be_focused()
    press(visit, '#faces [aria-label="Detail face 1"]', "Space")
    expect(visit['#faces [aria-label="Detail face 1"]']).to_be_focused()
    visit.set(max_faces="1")
    expect(visit["#faces-help"]).to_contain_text("The settings have changed")
    visit["#pictures li button"].nth(2).click()
    expect(visit["#faces-help"]).to_contain_text("See which faces count before you pay")


def test_the_tab_key_goes_through_the_page_in_its_order(relayed: Visit, two: Path) -> None:
    """As it is read: header, picture, its tools, what came of it, the strip, settings, history."""
    visit = relayed
    visit.choose(two)
    visit.detail()
    expect(visit["#history-list li"]).to_have_count(1)
    visit.page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges()")
    visit["h1"].click()
    stops: list[str] = []
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        stops.append(visit.page.evaluate("document.activeElement.id"))
    order = [
        *("key-button", "grid", "zoom-fit", "viewer", "copy-done", "download", "add"),
        *("field-prompt", "find", "field-denoise", "go", "forget-all"),
    ]
    places = [stops.index(name) for name in order]
    assert places == sorted(places)
