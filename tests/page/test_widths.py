"""The page on narrow screens, and enlarged: nothing sticks out, and what comes next is in reach."""

from pathlib import Path

import pytest
from http_service import Service
from page_browser import NEEDS_CHROMIUM, Visit, visiting
from playwright.sync_api import Browser, expect

from pipeline.report import Report

pytestmark = NEEDS_CHROMIUM

# Visible elements that a side of the window cuts off, outside of areas that scroll themselves.
STICKING_OUT = """
() => [...document.querySelectorAll("body *")].filter((element) => {
    const { left, right, width, height } = element.getBoundingClientRect();
    const isClipped = element.closest(".viewer, .strip, pre, .unseen, [hidden]");
    return width > 1 && height > 1 && !isClipped && (left < -0.5 || right > innerWidth + 0.5);
}).map((element) => element.outerHTML.slice(0, 90))
"""
TOPMOST = """
(button) => {
    const { left, top, width, height } = button.getBoundingClientRect();
    return button.contains(document.elementFromPoint(left + width / 2, top + height / 2));
}
"""
# Of the control that has the focus: whether its help, or else itself, is partly below the bar of
# buttons, or where the form fades above it.
UNDER_THE_BAR = """
() => {
    const control = document.activeElement;
    if (!control.closest(".fields")) return null;
    const help = document.getElementById(control.getAttribute("aria-describedby")) ?? control;
    const bottom = Math.max(...[control, help].map((e) => e.getBoundingClientRect().bottom));
    const bar = document.querySelector(".actions").getBoundingClientRect().top;
    return bottom > bar - 24 ? `${control.name || control.id}: ${bottom} > ${bar}` : "";
}
"""
DESKTOP = {"viewport": {"width": 1280, "height": 720}}
ZOOMED = {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}


def phone(width: int) -> dict[str, object]:
    size = {"width": width, "height": 640}
    return {"viewport": size, "has_touch": True, "is_mobile": True}


def assert_fits(visit: Visit, state: str) -> None:
    sizes = "[document.documentElement.scrollWidth, innerWidth, visualViewport.scale]"
    scrolled, inner, scale = visit.page.evaluate(sizes)
    width = visit.page.viewport_size["width"]
    assert (scrolled, inner, scale) == (width, width, 1), state
    assert visit.page.evaluate(STICKING_OUT) == [], state


@pytest.mark.parametrize(
    "screen",
    [
        pytest.param(phone(320), marks=pytest.mark.slow),
        phone(360),
        pytest.param(phone(390), marks=pytest.mark.slow),
        pytest.param(ZOOMED, marks=pytest.mark.slow),
    ],
    ids=["320", "360", "390", "200 %"],
)
def test_nothing_sticks_out(
    browser: Browser, server_url: str, unlimited_key: str, two: Path, screen: dict[str, object]
) -> None:
    with visiting(browser, server_url, **screen) as visit:
        assert_fits(visit, "empty")
        visit["#key-button"].click()
        assert_fits(visit, "key dialog")
        visit["#key-cancel"].click()
        visit.use_key(unlimited_key)
        expect(visit["#credits"]).to_contain_text("1,000,000 credits")
        assert_fits(visit, "with credits")
        visit.choose(two, two)
        assert_fits(visit, "two pictures")
        visit["#find"].click()
        expect(visit[".box"]).to_have_count(2)
        assert_fits(visit, "faces found")
        for button in ("#go", "#go-all"):
            expect(visit[button]).to_be_in_viewport(ratio=1)
            assert visit[button].evaluate(TOPMOST), button
        visit.set(denoise="0", upscale="2", samples="2", prompt="long " * 300)
        assert_fits(visit, "all settings")
        # What the bar of buttons covers can be scrolled free.
        visit["#defaults"].scroll_into_view_if_needed()
        assert visit["#defaults"].evaluate(TOPMOST)
        visit["#copy-call"].click()
        assert_fits(visit, "code")
        visit["#copy-close"].click()
        visit.detail()
        assert_fits(visit, "result")
        expect(visit["#history-list li"]).to_have_count(1)
        visit["#grid"].check(force=True)
        visit["#forget-all"].click()
        expect(visit["#undo"]).to_be_visible()
        assert_fits(visit, "side by side, history cleared")


@pytest.mark.parametrize("screen", [phone(360), DESKTOP], ids=["360", "desktop"])
def test_what_has_the_focus_is_not_below_the_buttons(
    browser: Browser, server_url: str, two: Path, screen: dict[str, object]
) -> None:
    """Nor is the text that explains it."""
    with visiting(browser, server_url, **screen) as visit:
        visit.choose(two, two)
        visit["#more-settings summary"].click()
        visit["#field-prompt"].focus()
        seen = []
        while (below := visit.page.evaluate(UNDER_THE_BAR)) is not None:
            seen.append(below)
            visit.page.keyboard.press("Tab")
        assert len(seen) > 20
        assert [below for below in seen if below] == []


@pytest.mark.parametrize("width", [320, pytest.param(360, marks=pytest.mark.slow)])
def test_a_phone_has_all_of_the_head_the_tools_and_the_code(
    browser: Browser, service: Service, two: Path, width: int
) -> None:
    with visiting(browser, service.url, **phone(width)) as visit:
        visit.use_key(service.new_key("1000000"))
        expect(visit["#credits"]).to_have_text("1,000,000 credits left")
        for part in (".bar h1", ".bar a", "#credits", "#key-button"):
            expect(visit[part]).to_be_visible()
            assert not visit[part].evaluate("part => part.scrollWidth > part.clientWidth"), part
        assert visit[".bar h1 span"].bounding_box()["width"] > 80
        visit.choose(two)
        visit.set(samples="2")
        visit["#find"].click()
        expect(visit[".box"]).to_have_count(1)
        visit.detail()
        line, zoom = visit["#title"].bounding_box(), visit["#zoom-in"].bounding_box()
        assert zoom["y"] < line["y"] + line["height"] / 2 < zoom["y"] + zoom["height"]
        visit["#copy-done"].click()
        for way in ("curl", "Python", "JavaScript"):
            visit.page.get_by_label(way, exact=True).click()
            assert visit["#copy-dialog pre"].evaluate("pre => pre.scrollWidth <= pre.clientWidth")


@pytest.mark.parametrize("screen", [phone(360), DESKTOP], ids=["360", "desktop"])
def test_labels_lie_beside_the_picture(
    browser: Browser, service: Service, two: Path, screen: dict[str, object]
) -> None:
    note = "A note that takes some room below the picture. " * 6
    service.engine.report = Report(found=1, detailed=1, note=note)
    with visiting(browser, service.url, **screen) as visit:
        visit.use_key(service.new_key("1"))
        visit.choose(two)
        visit.detail()
        for shown in ("slider", "grid"):
            expect(visit["#viewer"]).to_have_attribute("data-mode", shown)
            for pane in visit["#viewer .pane:not(.layer)"].all():
                label = pane.locator(".caption").bounding_box()
                assert label["y"] + label["height"] <= pane.locator("img").bounding_box()["y"]
            visit["#grid"].check(force=True)
