"""The page on a phone, by keyboard, for screen readers, light and dark."""

from pathlib import Path
from typing import Any

import pytest
from page_browser import NEEDS_CHROMIUM, Visit, visiting
from pages import ROOT
from playwright.sync_api import Browser, expect

pytestmark = NEEDS_CHROMIUM

# `.ci/run` fetches it; it is not part of this project.
AXE = ROOT / "build" / "axe-core" / "axe.min.js"
SERIOUS = {"serious", "critical"}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def serious_faults(visit: Visit) -> list[str]:
    if not visit.page.evaluate("'axe' in window"):
        visit.page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = visit.page.evaluate("axe.run().then((run) => run.violations)")
    return [
        f"{fault['id']}: {node['html']}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


@pytest.mark.skipif(not AXE.exists(), reason=f"axe-core is not there: {AXE}")
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_no_serious_fault(
    browser: Browser, server_url: str, key: str, two: Path, scheme: str
) -> None:
    with visiting(browser, server_url, color_scheme=scheme, reduced_motion="reduce") as visit:
        assert serious_faults(visit) == []
        visit["#key-button"].click()
        assert serious_faults(visit) == []
        visit["#key-cancel"].click()
        visit.use_key(key)
        visit.choose(two)
        visit.set(denoise="0", upscale="2", samples="2")
        visit["#find"].click()
        expect(visit[".box"]).to_have_count(2)
        visit[".box"].first.click()
        assert serious_faults(visit) == []
        visit.detail()
        expect(visit["#history-list li"]).to_have_count(1)
        assert serious_faults(visit) == []
        visit["#copy-done"].click()
        assert serious_faults(visit) == []


def test_on_a_phone_everything_is_within_reach(
    browser: Browser, server_url: str, key: str, two: Path
) -> None:
    with visiting(browser, server_url, **PHONE) as visit:
        visit.use_key(key)
        visit.choose(two)
        visit["#find"].click()
        expect(visit[".box"]).to_have_count(2)
        visit.set(denoise="0", upscale="2", samples="4")
        expect(visit["#go"]).to_be_in_viewport()
        visit.detail()
        expect(visit["#history-list li"]).to_have_count(1)
        too_wide = visit.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not too_wide
        for selector in ("#download", "#find", "#key-button", "#zoom-in", "#add", "#grid-chip"):
            box = visit[selector].bounding_box()
            assert box, selector
            assert box["x"] >= 0, selector
            assert box["x"] + box["width"] <= 360, selector
            assert box["height"] >= 32, selector


def focused(visit: Visit) -> str:
    return visit.page.evaluate("document.activeElement.id || document.activeElement.ariaLabel")


def test_the_keyboard_alone_will_do(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    visit["#find"].focus()
    visit.page.keyboard.press("Enter")
    expect(visit[".box"]).to_have_count(2)
    visit[".box"].first.focus()
    visit.page.keyboard.press("Space")
    expect(visit[".box"].first).to_have_attribute("aria-pressed", "false")
    assert focused(visit) == "Detail face 1"
    expect(visit.page.get_by_role("checkbox", name="Detail face 1")).not_to_be_checked()
    visit["#viewer"].focus()
    visit.page.keyboard.press("+")
    expect(visit["#zoom-fit"]).to_have_text("140 %")
    visit.page.keyboard.press("0")
    expect(visit["#zoom-fit"]).to_have_text("Fit")
    visit.set(denoise="0", upscale="2")
    visit["#field-denoise"].press("Enter")
    expect(visit["#outcome"]).to_be_visible()
    visit["#viewer .divider"].focus()
    visit.page.keyboard.press("ArrowRight")
    split = "viewer => viewer.style.getPropertyValue('--split')"
    assert visit["#viewer"].evaluate(split) == "51%"
    stops = set()
    visit["#choose"].evaluate("() => document.body.focus()")
    for _ in range(80):
        visit.page.keyboard.press("Tab")
        stops.add(focused(visit))
    assert {"key-button", "viewer", "find", "go", "download", "copy-done", "add"} <= stops


def test_zoom_and_pan_by_pointer_keep_both_in_step(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    visit.set(denoise="0", upscale="2")
    visit.detail()
    box = visit["#viewer"].bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    visit.page.mouse.move(*middle)
    visit.page.mouse.wheel(0, -400)
    visit.page.mouse.down()
    visit.page.mouse.move(middle[0] + 40, middle[1], steps=4)
    visit.page.mouse.up()
    transforms = visit["#viewer .content"].evaluate_all(
        "contents => contents.map(content => content.style.transform)"
    )
    assert len(transforms) == 3
    assert len(set(transforms)) == 1
    assert "scale(2.718" in transforms[0]
    images = visit["#viewer .pane:not(.layer) img"].evaluate_all(
        "images => images.map(image => JSON.stringify(image.getBoundingClientRect()))"
    )
    assert len(set(images)) == 1
