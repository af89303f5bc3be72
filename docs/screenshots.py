"""Takes the README's pictures of the page at `/`: `make screenshots`. Needs Chromium.

Starts a server on the profile `tiny`, and details the page's example on it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from page_browser import chromium  # noqa: E402
from server_program import PROGRAM, environment_with, run_server, wait_until_ready  # noqa: E402

IMAGES = ROOT / "docs" / "images"
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
BOX = "e => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }"
PHONE = {
    "viewport": {"width": 390, "height": 800},
    "device_scale_factor": 1.5,
    "is_mobile": True,
    "has_touch": True,
    "color_scheme": "dark",
}


def main() -> None:
    """Start the server, take both pictures, stop it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = environment_with(data_dir=folder)
        process, url = run_server(Path(folder), environment)
        try:
            wait_until_ready(process, url, Path(folder) / "log.txt")
            command = [PROGRAM, "keys", "create", "--credits", "100"]
            done = subprocess.run(  # noqa: S603
                command, env=environment, capture_output=True, text=True, check=True
            )
            with chromium() as browser:
                take(browser, f"{url}/#key={done.stdout.split()[-1]}")
        finally:
            process.terminate()
            process.communicate(timeout=60)


def take(browser: Browser, address: str) -> None:
    """Both pictures."""
    page = browser.new_context(**DESKTOP).new_page()
    begin(page, address)
    page.locator("#go").click()
    expect(page.locator("#outcome")).to_be_visible()
    expect(page.locator("#history-list li")).to_have_count(1)
    x, y, width, height = page.locator("#viewer").evaluate(BOX)
    page.mouse.move(x + 0.45 * width, y + 0.26 * height)
    page.mouse.wheel(0, -460)
    page.mouse.down()
    page.mouse.move(x + 0.48 * width, y + 0.46 * height, steps=5)
    page.mouse.up()
    page.mouse.move(0, 0)
    shoot(page, "page.jpg")
    page = browser.new_context(**PHONE).new_page()
    begin(page, address)
    page.locator("#find").click()
    expect(page.locator(".box")).to_have_count(1)
    page.evaluate("scrollTo(0, 60)")
    shoot(page, "page-phone.jpg")


def begin(page: Page, address: str) -> None:
    """Open the page with its example on it."""
    page.goto(address)
    expect(page.locator("#credits")).to_be_visible()
    page.locator("#example").click()
    expect(page.locator("#work")).to_be_visible()


def shoot(page: Page, name: str) -> None:
    """Write the picture of what is in view."""
    page.wait_for_timeout(400)
    page.screenshot(path=IMAGES / name, type="jpeg", quality=82)


if __name__ == "__main__":
    main()
