"""`/docs` in a browser, under a policy of its own: the key of the page at `/` is in its reach."""

from pathlib import Path

import pytest
from http_service import Service, encoded
from page_browser import NEEDS_CHROMIUM, visiting
from playwright.sync_api import Browser, expect

pytestmark = NEEDS_CHROMIUM

LOAD_ELSEWHERE = """
() => new Promise((resolve) => {
    const refused = new Set();
    const note = (event) => {
        refused.add(event.effectiveDirective);
        if (refused.size === 3) resolve([...refused].sort());
    };
    document.addEventListener("securitypolicyviolation", note);
    const script = document.createElement("script");
    script.textContent = "window.taken = 1";
    document.body.append(script);
    new Image().src = "http://127.0.0.1:1/a.png";
    fetch("http://127.0.0.1:1/").catch(() => {});
})
"""


@pytest.mark.slow
def test_calls_can_be_tried_and_nothing_else_is_loaded(
    browser: Browser, service: Service, its_key: str, tmp_path: Path
) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(encoded())
    with visiting(browser, service.url, "/docs", shows="#swagger-ui .opblock") as visit:
        page = visit.page
        page.get_by_role("button", name="Authorize").click()
        visit["#api_key_value"].fill(its_key)
        page.get_by_label("Apply credentials").first.click()
        page.get_by_role("button", name="Close").first.click()
        call = visit["#operations-account-get_credits"]
        call.locator(".opblock-summary-control").click()
        call.get_by_role("button", name="Execute").click()
        expect(call.locator(".live-responses-table")).to_contain_text('"credits": 10')
        call = visit["#operations-faces-detail_faces"]
        call.locator(".opblock-summary-control").click()
        call.get_by_label("Request content type").select_option("multipart/form-data")
        call.locator('input[type="file"]').first.set_input_files(file)
        call.locator('[data-property-name="base64"] select').select_option("false")
        call.get_by_role("button", name="Execute").click()
        shown = call.locator(".live-responses-table .response-col_description img")
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 24
        # So far without a word on the console.
        visit.check()
        visit.expected.append(r".*Content Security Policy|.*ERR_|.*Fetch API cannot load")
        refused = page.evaluate(LOAD_ELSEWHERE)
        assert refused == ["connect-src", "img-src", "script-src-elem"]
        assert page.evaluate("window.taken") is None
        # Asked for, and not let out.
        visit.asked.clear()
