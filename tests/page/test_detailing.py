"""A person details pictures on the page; what they get is what the API gives."""

import base64
import json
import re
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import pytest
from page_browser import NEEDS_CHROMIUM, Visit, pixels_of, visiting
from playwright.sync_api import Browser, expect

pytestmark = NEEDS_CHROMIUM

FIELDS = {"prompt": "detailed face", "denoise": "0.4", "upscale": "1", "image_format": "png"}


def by_api(url: str, key: str, file: Path, **fields: str) -> list[bytes]:
    """The pictures that v1 answers with."""
    reply = httpx.post(
        f"{url}/v1/face-detailer",
        headers={"x-api-key": key},
        files={"image": file.read_bytes()},
        data=FIELDS | fields,
        timeout=120,
        trust_env=False,
    )
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return [base64.b64decode(picture) for picture in body.get("images", [body["image"]])]


def note_progress(visit: Visit) -> None:
    """From here on the page's own words for how far it is are kept in `seen`."""
    visit.page.evaluate(
        """() => {
            const words = document.getElementById("progress-words");
            window.seen = [];
            const note = () => window.seen.push(words.textContent);
            new MutationObserver(note).observe(words, { childList: true });
        }"""
    )


@pytest.mark.slow
def test_from_the_upload_to_the_download(
    with_key: Visit, server_url: str, key: str, two: Path
) -> None:
    visit, before = with_key, pixels_of(two.read_bytes())
    expect(visit["#credits"]).to_have_text(re.compile(r"^[\d.]+ credits? left$"))
    credits_before = Decimal(visit["#credits-left"].inner_text().split()[0])
    visit.choose(two)
    visit.set(**FIELDS)

    # The boxes are those of the API, the larger face first.
    visit["#find"].click()
    expect(visit[".box"]).to_have_count(2)
    found = httpx.post(
        f"{server_url}/v1/face-detailer/detect",
        headers={"x-api-key": key},
        files={"image": two.read_bytes()},
        trust_env=False,
        timeout=60,
    ).json()["faces"]
    for index, face in enumerate(found):
        shown = visit[".box"].nth(index).evaluate("box => [box.style.left, box.style.top]")
        wanted = [100 * face["box"][0] / 400, 100 * face["box"][1] / 220]
        assert [float(text.rstrip("%")) for text in shown] == pytest.approx(wanted, abs=0.01)

    # The larger face is left alone, the smaller one gets a prompt of its own.
    visit[".box"].first.click()
    expect(visit[".box"].first).to_have_attribute("aria-pressed", "false")
    visit.page.get_by_label("Prompt of face 2").fill("a smiling woman")
    note_progress(visit)
    visit.detail()
    seen = " | ".join(visit.page.evaluate("window.seen"))
    assert "Sending the picture" in seen
    assert re.search(r"(Outline|Detail) pass: face 2 of 2, step 1 of 1", seen), seen
    expect(visit["#outcome-words"]).to_contain_text("1 of 2 faces detailed · 1 skipped")
    expect(visit["#outcome-words"]).to_contain_text("0.01 credits")
    expect(visit["#price"]).to_have_text("Costs 0.01 credits.")
    left = f"{(credits_before - Decimal('0.01')).normalize():f} credits"
    expect(visit["#credits-left"]).to_have_text(left)

    # The slider.
    divider = visit["#viewer .divider"]
    divider.focus()
    divider.press("Home")
    assert visit["#viewer"].evaluate("v => v.style.getPropertyValue('--split')") == "0%"

    # The file is the API's, and the right face has changed.
    downloaded = visit.download()
    prompt = "[SKIP] [SEP] a smiling woman"
    assert [downloaded] == by_api(server_url, key, two, prompt=prompt)
    changed = np.abs(pixels_of(downloaded) - before).max(axis=2) > 0
    (x0, y0, x1, y1) = (round(value) for value in found[0]["box"])
    assert not changed[y0:y1, x0:x1].any()
    (x0, y0, x1, y1) = (round(value) for value in found[1]["box"])
    assert changed[y0:y1, x0:x1].mean() > 0.5


@pytest.mark.slow
def test_the_bar_fills_while_the_picture_is_enlarged(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    visit.set(denoise="0.4", upscale="4")
    visit.page.evaluate(
        """() => {
            const bar = document.getElementById("progress-bar");
            window.seen = [];
            const note = () => window.seen.push([bar.ariaValueText, Number(bar.ariaValueNow)]);
            new MutationObserver(note).observe(bar, { attributes: true });
        }"""
    )
    visit.detail()
    enlarging = [share for words, share in visit.page.evaluate("seen") if words == "Enlarging"]
    assert enlarging == sorted(enlarging)
    assert len(set(enlarging)) >= 3
    assert enlarging[-1] < 100


def test_other_settings_take_the_boxes_away(with_key: Visit, two: Path) -> None:
    with_key.choose(two)
    with_key["#find"].click()
    expect(with_key[".box"]).to_have_count(2)
    with_key.set(denoise="0.5")
    expect(with_key[".box"]).to_have_count(2)
    with_key.set(max_faces="1")
    expect(with_key[".box"]).to_have_count(0)
    expect(with_key["#faces-help"]).to_contain_text("The settings have changed")
    with_key["#find"].click()
    expect(with_key[".box"]).to_have_count(1)
    with_key["#masks"].check(force=True)
    expect(with_key[".overlay"]).to_be_visible()
    assert with_key[".overlay"].evaluate("image => image.decode().then(() => image.naturalWidth)")


@pytest.mark.slow
def test_samples_side_by_side(with_key: Visit, server_url: str, key: str, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    fields = {"samples": "2", "passes": "detail", "max_faces": "1"}
    visit.set(**FIELDS, **fields, seed="-1")
    visit.detail()
    visit["#grid"].check(force=True)
    captions = visit["#viewer .caption"]
    expect(captions).to_have_text(["Before", "Sample 1", "Sample 2"])
    visit["#zoom-in"].click()
    transforms = visit["#viewer .pane:not(.layer) .content"].evaluate_all(
        "contents => contents.map(content => content.style.transform)"
    )
    assert len(set(transforms)) == 1
    assert "scale(1.4)" in transforms[0]
    visit["#grid"].uncheck(force=True)
    visit.page.get_by_label("Sample 2", exact=True).click()
    seed = re.search(r"seed (\d+)", visit["#outcome-words"].inner_text())
    assert seed
    both = by_api(server_url, key, two, **fields, seed=seed[1])
    assert visit.download() == both[1]


def test_events_go_on_where_the_connection_broke(with_key: Visit, two: Path) -> None:
    visit, broken = with_key, []

    def break_once(route) -> None:
        if not broken:
            broken.append(route.request.url)
            return route.fulfill(
                content_type="text/event-stream",
                body='id: 1\r\nevent: queued\r\ndata: {"place": 7}\r\n\r\n',
            )
        seen.append(route.request.headers.get("last-event-id"))
        return route.continue_()

    seen: list[str | None] = []
    visit.page.route("**/events", break_once)
    note_progress(visit)
    visit.choose(two)
    visit.set(denoise="0", upscale="2")
    visit.detail()
    assert "Waiting in the queue: 7 ahead" in visit.page.evaluate("window.seen")
    assert (len(broken), seen) == (1, ["1"])


@pytest.mark.slow
def test_cancelling_costs_nothing(with_key: Visit, two: Path) -> None:
    visit = with_key
    before = visit["#credits-left"].inner_text()
    visit.choose(two)
    visit.set(samples="4", upscale="4", num_inference_steps="75")
    visit["#go"].click()
    expect(visit["#progress-words"]).to_contain_text("pass")
    visit["#cancel"].click()
    expect(visit["#note"]).to_have_text("Cancelled. Nothing was charged.")
    expect(visit["#problem"]).to_be_hidden()
    expect(visit["#progress"]).to_be_hidden()
    visit.page.reload()
    expect(visit["#credits-left"]).to_have_text(before)
    expect(visit["#title"]).to_have_text("two faces.png, 400 × 220")
    expect(visit["#progress"]).to_be_hidden()


def test_the_browser_remembers(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    visit.set(prompt="an old prompt", denoise="0", upscale="2")
    visit.detail()
    downloaded = visit.download()
    expect(visit["#history-list li"]).to_have_count(1)
    visit["#field-prompt"].fill("another")
    visit.page.reload()
    expect(visit["#credits"]).to_be_visible()
    visit["#history-list .past"].click()
    expect(visit["#outcome"]).to_be_visible()
    expect(visit["#field-prompt"]).to_have_value("an old prompt")
    assert visit.download() == downloaded
    for drop in ("#history-list .remove", "#forget-all"):
        visit[drop].click()
        expect(visit["#history-list li"]).to_have_count(0)
        expect(visit["#undo"]).to_be_focused()
        visit["#undo"].click()
        expect(visit["#history-list li"]).to_have_count(1)
    visit["#forget-all"].click()
    expect(visit["#undo-words"]).to_have_text("1 result forgotten.")
    visit.page.reload()
    expect(visit["#credits"]).to_be_visible()
    expect(visit["#history"]).to_be_hidden()


@pytest.mark.slow
def test_a_result_comes_though_the_page_was_left(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    visit.set(samples="4")
    visit["#go"].click()
    expect(visit["#progress-words"]).to_contain_text("pass")
    visit.page.reload()
    expect(visit["#outcome"]).to_be_visible()
    expect(visit["#history-list li"]).to_have_count(1)


@pytest.mark.slow
def test_it_works_behind_a_path_prefix(
    browser: Browser, server_url: str, key: str, two: Path
) -> None:
    def pass_on(route) -> None:
        headers = route.request.headers | {"x-forwarded-prefix": "/faces"}
        route.continue_(url=route.request.url.replace("/faces/", "/", 1), headers=headers)

    context = browser.new_context()
    context.route("**/faces/**", pass_on)
    with visiting(browser, server_url, "/faces/", context=context) as visit:
        visit.use_key(key)
        visit.choose(two)
        visit["#find"].click()
        expect(visit[".box"]).to_have_count(2)
        visit.set(denoise="0", upscale="2")
        visit.detail()
        assert visit.download()
        kept = json.loads(visit.page.evaluate("JSON.stringify(Object.keys(localStorage))"))
        assert {name.split(":")[1] for name in kept} == {"/faces/"}
        assert [url for url in visit.asked if not re.match(r"blob:|.*/faces/", url)] == []
