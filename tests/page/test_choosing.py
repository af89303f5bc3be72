"""What was said of each face stays said, and nobody pays for what would change nothing."""

from pathlib import Path

import pytest
from http_service import encoded, running
from page_browser import NEEDS_CHROMIUM, Visit, visiting
from playwright.sync_api import Browser, Route, expect

from server.settings import Settings

# Minutes in all; `make test` sees the page's main ways in `test_ways` and `test_detailing`.
pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


def find(visit: Visit, faces: int) -> None:
    visit["#find"].click()
    expect(visit["#find"]).to_have_attribute("aria-disabled", "false")
    expect(visit[".box"]).to_have_count(faces)


def assert_left_alone(visit: Visit, number: int) -> None:
    """This one of the two faces, in the picture and in the list; the other one is not."""
    for i in (1, 2):
        box = visit[".box"].nth(i - 1)
        expect(box).to_have_attribute("aria-pressed", "false" if i == number else "true")
        in_list = visit["#faces"].get_by_label(f"Detail face {i}")
        expect(in_list).to_be_checked(checked=i != number)


def test_finding_again_keeps_what_was_said_of_each_face(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    find(visit, 2)
    visit[".box"].first.click()
    visit.page.get_by_label("Prompt of face 2").fill("a smiling woman")
    find(visit, 2)
    assert_left_alone(visit, 1)
    expect(visit.page.get_by_label("Prompt of face 2")).to_have_value("a smiling woman")

    # Also with other settings, by which they are numbered the other way round.
    visit.set(prompt="[SEP]", face_order="left-right")
    expect(visit[".box"]).to_have_count(0)
    find(visit, 2)
    assert_left_alone(visit, 2)
    expect(visit.page.get_by_label("Prompt of face 1")).to_have_value("a smiling woman")

    # Unless the prompt says another thing now.
    visit.set(prompt="[SKIP] [SEP] one more", face_order="left-right")
    find(visit, 2)
    expect(visit['.box[aria-pressed="false"]']).to_have_count(2)


def test_faces_that_are_clicked_while_they_are_looked_for_stay_so(
    with_key: Visit, two: Path
) -> None:
    visit, held = with_key, []
    visit.choose(two)
    find(visit, 2)

    def hold(route: Route) -> None:
        held.append(route)

    visit.page.route("**/detect", hold)
    visit["#find"].click()
    expect(visit["#faces-help"]).to_have_text("Looking for faces…")
    visit[".box"].last.click()
    # What would be sent now may not be what is chosen then.
    expect(visit["#go"]).to_have_attribute("aria-disabled", "true")
    visit["#field-prompt"].fill("detailed face, smiling")
    visit["#field-denoise"].press("Enter")
    while not held:
        visit.page.wait_for_timeout(20)
    held[0].continue_()
    expect(visit["#go"]).to_have_attribute("aria-disabled", "false")
    assert_left_alone(visit, 2)
    assert not any(url.endswith("/v2/face-detailer") for url in visit.asked)


def test_a_face_that_the_prompt_skips_is_detailed_if_it_is_clicked(
    with_key: Visit, two: Path
) -> None:
    visit = with_key
    visit.choose(two)
    visit.set(prompt="[SKIP]", denoise="0.3", upscale="1", passes="detail")
    expect(visit["#price"]).to_have_text("Every face is left as it is: nothing would be changed.")
    find(visit, 2)
    visit[".box"].last.click()
    visit.detail()
    expect(visit["#outcome-words"]).to_contain_text("1 of 2 faces detailed · 1 skipped")


def test_what_would_change_nothing_is_not_offered_for_money(with_key: Visit, two: Path) -> None:
    visit = with_key
    visit.choose(two)
    visit.set(upscale="1", denoise="0.4")
    find(visit, 2)
    go, price = visit["#go"], visit["#price"]
    for number in (0, 1):
        expect(go).to_be_enabled()
        expect(price).to_have_text("Costs 0.01 credits.")
        visit[".box"].nth(number).click()
    expect(price).to_have_text("Every face is left as it is: nothing would be changed.")
    expect(go).to_be_disabled()
    visit.set(upscale="2")
    only = "the picture would only be enlarged. Costs 0.01 credits."
    expect(price).to_have_text(f"Every face is left as it is: {only}")
    expect(go).to_be_enabled()
    visit[".box"].first.click()
    expect(price).to_have_text("Costs 0.01 credits.")
    visit.set(denoise="0")
    expect(price).to_have_text(f"Denoise is 0: {only}")
    visit.set(upscale="1")
    expect(price).to_have_text("Denoise is 0: nothing would be changed.")
    expect(go).to_be_disabled()

    # Of several only those that would be changed are counted.
    visit.choose(two)
    visit.set(denoise="0.4")
    visit["#pictures li button"].first.click()
    visit[".box"].first.click()
    one = "Every face is left as it is: nothing would be changed."
    expect(price).to_have_text(f"{one} 0.01 credits for 1 more.")
    expect(visit["#go-all"]).to_have_text("Detail 1 more")


def test_nor_is_a_picture_without_a_face(with_key: Visit, tmp_path: Path) -> None:
    file = tmp_path / "no face.png"
    file.write_bytes(encoded(200, 120))
    with_key.choose(file)
    with_key.set(upscale="1")
    find(with_key, 0)
    expect(with_key["#price"]).to_have_text("No face was found: nothing would be changed.")
    expect(with_key["#go"]).to_be_disabled()


@pytest.mark.parametrize(
    ("price", "words"), [("0", "Free of charge."), ("0.002", "Each look costs 0.002 credits.")]
)
def test_what_a_look_for_faces_costs_is_said_before(
    browser: Browser, two: Path, tmp_path: Path, price: str, words: str
) -> None:
    settings = Settings(data_dir=tmp_path, cost_per_detection=price)
    with running(settings) as service, visiting(browser, service.url) as visit:
        expect(visit["#faces-help"]).to_have_text(f"See which faces count before you pay. {words}")
        visit.choose(two)
        expect(visit["#faces-help"]).to_contain_text(words)
