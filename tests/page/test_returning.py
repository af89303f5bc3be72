"""Pictures are there after a reload, with what was said of each face; nobody asks again."""

import shutil
from pathlib import Path

import PIL.Image
import pytest
from http_service import Service
from page_browser import NEEDS_CHROMIUM, Visit, visiting
from page_relay import Relay
from playwright.sync_api import Browser, expect

# Minutes in all; `make test` sees the page's main ways in `test_ways` and `test_detailing`.
pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

# The database of the page before pictures were kept that are not sent yet.
AS_IN_VERSION_1 = """async (bytes) => {
    const open = indexedDB.open("face-detailer:/:", 1);
    open.onupgradeneeded = () => open.result.createObjectStore("runs", { keyPath: "id" });
    await new Promise((resolve) => (open.onsuccess = resolve));
    const picture = new Blob([new Uint8Array(bytes)], { type: "image/png" });
    const fields = { prompt: "a face", denoise: "0.4" };
    const about = {
        faces: { found: 1, detailed: 1, left_out: {}, unchanged: 0 },
        metrics: { total_time: 1, cost: 0.01 },
        images: [{ width: 400, height: 220 }],
        seed: 1,
    };
    const run = { id: "a", at: 1, name: "old.png", fields, picture, request: "b", about };
    const files = [{ blob: picture, name: "new.png" }];
    const ended = { isCancelled: false, files, thumbnail: null };
    const transaction = open.result.transaction("runs", "readwrite");
    transaction.objectStore("runs").put({ ...run, ...ended });
    await new Promise((resolve) => (transaction.oncomplete = resolve));
    open.result.close();
}"""


# On a machine with other work.
SLOW_DATABASE = """
const open = IDBFactory.prototype.open;
IDBFactory.prototype.open = function (...which) {
    const request = open.apply(this, which);
    const set = (opened) => request.addEventListener("success", () => setTimeout(opened, 1500));
    Object.defineProperty(request, "onsuccess", { set });
    return request;
};
"""


def detections(visit: Visit) -> int:
    return sum(url.endswith("/detect") for url in visit.asked)


def choose_among_faces(visit: Visit, picture: Path) -> None:
    """Find both faces, leave the larger one alone, and give the other one a prompt."""
    visit.choose(picture)
    visit["#find"].click()
    expect(visit[".box"]).to_have_count(2)
    visit[".box"].first.click()
    visit.page.get_by_label("Prompt of face 2").fill("a smiling woman")


def assert_chosen(visit: Visit) -> None:
    expect(visit[".box"]).to_have_count(2)
    expect(visit[".box"].first).to_have_attribute("aria-pressed", "false")
    expect(visit[".box"].last).to_have_attribute("aria-pressed", "true")
    expect(visit.page.get_by_label("Prompt of face 2")).to_have_value("a smiling woman")
    assert detections(visit) == 1


def test_before_anything_is_paid_for(with_key: Visit, two: Path) -> None:
    visit = with_key
    choose_among_faces(visit, two)
    visit.page.reload()
    assert_chosen(visit)
    expect(visit["#title"]).to_have_text("two faces.png, 400 × 220")
    visit.set(denoise="0.5", upscale="1")
    visit.detail()
    expect(visit["#outcome-words"]).to_contain_text("1 of 2 faces detailed · 1 skipped")
    expect(visit["#history-list li"]).to_have_count(1)

    # From then on they are the result's.
    visit.page.reload()
    expect(visit["#history-list li"]).to_have_count(1)
    expect(visit["#empty"]).to_be_visible()
    visit.set(denoise="0.2", prompt="something else")
    visit["#history-list .past"].click()
    assert_chosen(visit)
    expect(visit["#field-denoise"]).to_have_value("0.5")
    expect(visit["#field-prompt"]).to_have_value("detailed face")
    expect(visit["#go"]).to_have_text("Detail again")


def test_of_a_request_under_way_and_after_it_was_cancelled(
    relayed: Visit, service: Service, relay: Relay, two: Path
) -> None:
    visit = relayed
    service.engine.dawdle = True
    visit.choose(two)
    visit["#find"].click()
    expect(visit[".box"]).to_have_count(1)
    visit.page.get_by_label("Prompt of face 1").fill("a smiling woman")
    visit["#go"].click()
    expect(visit["#progress-words"]).to_contain_text("Detail pass")
    visit.page.reload()
    expect(visit["#progress-words"]).to_contain_text("Detail pass")
    expect(visit["#pictures li"]).to_have_count(1)
    expect(visit.page.get_by_label("Prompt of face 1")).to_have_value("a smiling woman")
    visit["#cancel"].click()
    expect(visit["#note"]).to_have_text("Cancelled. Nothing was charged.")
    visit.page.reload()
    expect(visit.page.get_by_label("Prompt of face 1")).to_have_value("a smiling woman")
    expect(visit["#pictures li"]).to_have_count(1)
    expect(visit["#progress"]).to_be_hidden()
    assert detections(visit) == 1
    assert len(relay.keys) == 1


def test_of_a_file_that_the_browser_cannot_show(with_key: Visit, two: Path, tmp_path: Path) -> None:
    visit, picture = with_key, tmp_path / "two.tif"
    with PIL.Image.open(two) as image:
        image.save(picture)
    choose_among_faces(visit, picture)
    visit.page.reload()
    assert_chosen(visit)
    shown = visit["#viewer .pane img"].first
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 400


def test_pictures_whose_faces_were_not_looked_for_are_there_too(
    with_key: Visit, two: Path, tmp_path: Path
) -> None:
    visit = with_key
    names = [f"{number}.png" for number in range(4)]
    files = [Path(shutil.copy(two, tmp_path / name)) for name in names]
    no_picture = tmp_path / "notes.txt"
    no_picture.write_text("no picture")
    visit.choose(*files[:3], no_picture)
    visit["#example"].evaluate("button => button.click()")
    expect(visit["#pictures li"]).to_have_count(5)
    visit.choose(files[3])
    visit.page.get_by_label("Remove 1.png").click()
    visit.page.reload()
    shown = visit["#pictures button[title]"]
    expect(shown).to_have_count(4)
    titles = [button.get_attribute("title") for button in shown.all()]
    assert titles == ["0.png", "2.png", "example.jpg", "3.png"]
    expect(visit["#title"]).to_have_text("0.png, 400 × 220")
    expect(visit["#faces-help"]).to_contain_text("See which faces count before you pay")
    visit["#find"].click()
    expect(visit[".box"]).to_have_count(2)
    visit.page.reload()
    expect(visit["#pictures li"]).to_have_count(4)
    expect(visit[".box"]).to_have_count(2)


def test_history_of_the_first_version_is_there_after_an_update(
    browser: Browser, service: Service, two: Path
) -> None:
    """Its database had results alone."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{service.url}/page/icon.svg")
    page.evaluate(AS_IN_VERSION_1, list(two.read_bytes()))
    with visiting(browser, service.url, context=context) as visit:
        expect(visit["#history-list .past"]).to_contain_text("old.png")
        visit["#history-list .past"].click()
        expect(visit["#outcome-words"]).to_contain_text("1 of 1 face detailed")
        visit.page.get_by_label("Remove old.png").click()
        visit.choose(two)
        visit.page.reload()
        expect(visit["#title"]).to_have_text("two faces.png, 400 × 220")
        expect(visit["#history-list .past"]).to_contain_text("old.png")


def test_not_of_a_picture_that_was_taken_off_the_page_nor_with_other_settings(
    with_key: Visit, two: Path
) -> None:
    visit = with_key
    choose_among_faces(visit, two)
    visit.choose(two)
    visit["#find"].click()
    expect(visit[".box"]).to_have_count(2)
    visit.page.get_by_label(f"Remove {two.name}").first.click()
    visit.page.reload()
    expect(visit["#pictures li"]).to_have_count(1)
    expect(visit[".box"].first).to_have_attribute("aria-pressed", "true")
    visit.set(max_faces="1")
    expect(visit[".box"]).to_have_count(0)
    visit.page.reload()
    expect(visit["#pictures li"]).to_have_count(1)
    expect(visit[".box"]).to_have_count(0)
    expect(visit["#history"]).to_be_hidden()


def test_what_is_put_on_the_page_before_they_are_there_is_there_once(
    browser: Browser, service: Service, two: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(two, tmp_path / "other.png"))
    context = browser.new_context()
    context.add_init_script(SLOW_DATABASE)
    key = service.new_key()
    with visiting(browser, service.url, f"/#key={key}", context=context) as visit:
        visit.choose(two)
        # Kept by then.
        visit.page.wait_for_timeout(3000)
        visit.page.reload()
        visit["#files"].set_input_files(other)
        expect(visit["#title"]).to_contain_text("other.png")
        service.engine.dawdle = True
        visit["#go"].click()
        expect(visit["#progress-words"]).to_contain_text("Detail pass")
        # What was left comes at once.
        visit.page.wait_for_timeout(3000)
        expect(visit["#pictures li"]).to_have_count(2)
        expect(visit["#title"]).to_contain_text("other.png")
        visit["#cancel"].click()
        expect(visit["#note"]).to_have_text("Cancelled. Nothing was charged.")
