"""How pictures get onto the page, and what it says when something is wrong."""

import base64
from pathlib import Path

import pytest
from page_browser import NEEDS_CHROMIUM, REFUSED, Visit
from playwright.sync_api import Route, expect

pytestmark = NEEDS_CHROMIUM

WITH_FILE = """
([data, name, type]) => {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    if (type === "paste") {
        const options = { clipboardData: transfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new ClipboardEvent("paste", options));
        return;
    }
    for (const step of ["dragenter", "dragover", "drop"]) {
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent(step, options));
    }
}
"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(visit: Visit, two: Path, way: str) -> None:
    data = base64.b64encode(two.read_bytes()).decode()
    for count, name in enumerate(("one.png", "<b>two</b>.png"), start=1):
        visit.page.evaluate(WITH_FILE, [data, name, way])
        expect(visit["#pictures li"]).to_have_count(count)
    expect(visit["#title"]).to_have_text("<b>two</b>.png, 400 × 220")
    expect(visit["#drop-hint"]).to_be_hidden()
    expect(visit["#go-all"]).to_have_text("Detail all 2")
    visit.page.get_by_label("Remove one.png").click()
    expect(visit["#pictures li"]).to_have_count(1)


def test_an_example_is_at_hand(visit: Visit) -> None:
    visit["#example"].click()
    expect(visit["#title"]).to_have_text("example.jpg, 512 × 512")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"denoise": "2"}, "denoise should be between 0 and 1"),
        ({"seed": "many"}, "Inputs which are supposed to be numbers are in alphabet"),
        ({"webhook_url": "ftp://a"}, "webhook_url should be an http:// or https:// URL"),
    ],
)
def test_errors_are_told_in_the_servers_words(
    with_key: Visit, two: Path, fields: dict[str, str], words: str
) -> None:
    with_key.expected.append(REFUSED)
    with_key.choose(two)
    with_key.set(**fields)
    with_key["#go"].click()
    expect(with_key["#problem"]).to_have_text(words)
    with_key["#defaults"].click()
    expect(with_key["#field-denoise"]).to_have_value("0.4")


def test_every_field_of_the_api_is_there(visit: Visit, server_url: str) -> None:
    document = visit.page.request.get(f"{server_url}/openapi.json").json()
    fields = document["components"]["schemas"]["SubmitRequestForm"]["properties"]
    shown = visit["#settings .field"].evaluate_all(
        "fields => fields.map(field => field.querySelector('[name]')?.name).filter(name => name)"
    )
    assert set(shown) == set(fields) - {"image", "base64"}
    assert shown[:4] == ["prompt", "denoise", "upscale", "samples"]
    for name in shown:
        help_text = visit[f"#help-{name}"].text_content()
        assert help_text.startswith(fields[name]["description"].replace("`", ""))
        if "maximum" in fields[name] and fields[name]["maximum"] > 4:
            assert f"{fields[name]['minimum']}–{fields[name]['maximum']}" in help_text


def test_a_picture_that_comes_before_the_page_is_ready_is_not_lost(visit: Visit, two: Path) -> None:
    held: list[Route] = []
    visit.page.route("**/openapi.json", lambda route: held.append(route))
    visit.page.reload()
    while not held:
        visit.page.wait_for_timeout(20)
    visit["#files"].set_input_files(two)
    # Only now the server says what it takes.
    held[0].continue_()
    expect(visit["#work"]).to_be_visible()
