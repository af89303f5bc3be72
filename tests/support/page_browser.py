"""The page at `/` as a person sees it, in Debian's Chromium."""

import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from composed import astronaut_pixels, head, put, scene
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    expect,
    sync_playwright,
)

CHROMIUM = shutil.which("chromium")
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
WAIT_S = 90.0
# As root Chromium runs without its sandbox alone. No name but the server's address leads anywhere.
_ARGUMENTS = [
    "--no-sandbox",
    "--no-proxy-server",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
REFUSED = r"Failed to load resource: the server responded with a status of 4\d\d"

expect.set_options(timeout=WAIT_S * 1000)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A visit to the page, and everything that should not have happened on it."""

    page: Page
    url: str
    expected: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __getitem__(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def use_key(self, key: str) -> None:
        self["#key-button"].click()
        self["#key"].fill(key)
        self["#key-save"].click()
        expect(self["#key-dialog"]).to_be_hidden()

    def choose(self, *files: Path) -> None:
        # Without pictures the last ones are hidden, and still there.
        pictures = self["#pictures li:visible"]
        before = pictures.count()
        self["#files"].set_input_files(list(files))
        expect(pictures).to_have_count(before + len(files))
        expect(self["#work"]).to_be_visible()

    def set(self, **fields: str) -> None:
        """Put values into the form's fields."""
        if not self["#more"].is_visible():
            self["#more-settings summary"].click()
        for name, text in fields.items():
            radios = f'input[type="radio"][name="{name}"]'
            if self[radios].count():
                self[f'{radios}[value="{text}"]'].check(force=True)
            else:
                self[f"#field-{name}"].fill(text)

    def detail(self) -> None:
        """Press the button and wait for the result."""
        self["#go"].click()
        expect(self["#outcome"]).to_be_visible()

    def download(self) -> bytes:
        with self.page.expect_download() as waiting:
            self["#download"].click()
        return Path(waiting.value.path()).read_bytes()

    def check(self) -> None:
        """Nothing was asked of another host, and nothing was complained of."""
        elsewhere = [url for url in self.asked if not url.startswith((self.url, "blob:", "about:"))]
        assert elsewhere == []
        pattern = "|".join(self.expected) or "(?!)"
        assert [text for text in self.console if not re.match(pattern, text)] == []


@contextlib.contextmanager
def visiting(
    browser: Browser,
    url: str,
    path: str = "/",
    context: BrowserContext | None = None,
    shows: str = "#field-denoise",
    **options: Any,
) -> Iterator[Visit]:
    """`shows`: what is there once the page is. `options`: of a new context of the browser's, e.g.
    `viewport`.
    """
    context = context or browser.new_context(**options)
    context.set_default_timeout(WAIT_S * 1000)
    page = context.new_page()
    visit = Visit(page, url)
    page.on("console", lambda message: _note(visit, message))
    page.on("pageerror", lambda error: visit.console.append(str(error)))
    page.on("request", lambda request: visit.asked.append(request.url))
    try:
        page.goto(f"{url}{path}")
        expect(visit[shows].first).to_be_visible()
        yield visit
        visit.check()
    finally:
        context.close()


def _note(visit: Visit, message: ConsoleMessage) -> None:
    """The text alone does not say which of the page's calls failed."""
    if message.type in ("error", "warning"):
        visit.console.append(f"{message.text} [{message.location['url']}]")


def two_faces() -> bytes:
    """A PNG of 400 × 220 pixels with a larger face on the right and a smaller one on the left."""
    canvas, astronaut = scene(400, 220), astronaut_pixels()
    for face_px, x, y, mirrored in ((60, 20, 60, True), (88, 190, 10, False)):
        pixels, _ = head(astronaut, face_px, mirrored=mirrored)
        put(canvas, pixels, x, y)
    return png(canvas)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), np.int16)
