"""Files that the browser cannot show, that are no pictures, or that the server would not take."""

import io
import shutil
from pathlib import Path

import PIL.Image
import pytest
from http_service import encoded, running
from page_browser import NEEDS_CHROMIUM, REFUSED, Visit, visiting
from picture_files import file_of
from playwright.sync_api import Browser, expect

from server.settings import Settings

pytestmark = NEEDS_CHROMIUM

NO_PICTURE = (
    "Invalid image: the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, GIF or BMP "
    "picture"
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><path d="M0 0h9v9z"/></svg>'
NATURAL_WIDTH = "image => image.decode().then(() => image.naturalWidth)"


def saved(picture: Path, file: Path, image_format: str) -> Path:
    with PIL.Image.open(picture) as image:
        file.write_bytes(file_of(image.convert("RGB"), image_format))
    return file


@pytest.mark.parametrize(("kind", "name"), [("HEIF", "two.heic"), ("TIFF", "two.tif")])
def test_what_the_browser_cannot_show_the_server_draws(
    with_key: Visit, two: Path, tmp_path: Path, kind: str, name: str
) -> None:
    visit, named = with_key, {"HEIF": "HEIC"}.get(kind, kind)
    visit.choose(saved(two, tmp_path / name, kind))
    expect(visit["#not-shown"]).to_contain_text(f"This browser cannot show {named} files")
    expect(visit["#pictures .kind"]).to_have_text(named)
    visit["#find"].click()
    expect(visit[".box"]).to_have_count(2)
    expect(visit["#not-shown"]).to_be_hidden()
    expect(visit["#title"]).to_have_text(f"{name}, 400 × 220")
    drawing = visit["#viewer .pane:not(.layer) img"]
    assert drawing.evaluate(NATURAL_WIDTH) == 400
    assert visit["#pictures img"].evaluate(NATURAL_WIDTH) == 400
    visit.set(denoise="0", upscale="2")
    visit.detail()
    expect(visit["#viewer .caption"]).to_have_text(["After"])
    expect(visit["#outcome-words"]).to_contain_text(
        f"No “before”: this browser cannot show {named}"
    )
    assert visit["#pictures img"].evaluate(NATURAL_WIDTH) == 800


@pytest.mark.parametrize(("name", "text"), [("notes.png", "not a picture"), ("drawing.svg", SVG)])
def test_what_is_no_picture_is_told_so_and_not_sold(
    visit: Visit, two: Path, tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    visit.choose(two)
    visit.choose(file)
    expect(visit["#problem"]).to_have_text(NO_PICTURE)
    expect(visit["#find"]).to_be_disabled()
    expect(visit["#go"]).to_be_disabled()
    expect(visit["#price"]).to_have_text("0.01 credits for 1 more.")
    expect(visit["#go-all"]).to_have_text("Detail 1 more")
    visit.page.get_by_label(f"Remove {two.name}").click()
    expect(visit["#price"]).to_be_hidden()


def test_nor_is_what_the_server_could_not_read(with_key: Visit, two: Path, tmp_path: Path) -> None:
    visit, broken = with_key, tmp_path / "broken.png"
    visit.expected.append(REFUSED)
    broken.write_bytes(two.read_bytes()[:30])
    visit.choose(two)
    visit.choose(broken)
    expect(visit["#not-shown"]).to_contain_text("This PNG file seems to be broken")
    words = "0.01 credits for this picture, 0.02 for all 2."
    expect(visit["#price"]).to_have_text(words)
    visit["#find"].click()
    expect(visit["#problem"]).to_contain_text("Invalid image: the file is broken")
    expect(visit["#not-shown"]).to_have_text("There is no picture to show.")
    expect(visit["#go"]).to_be_disabled()
    expect(visit["#price"]).to_have_text("0.01 credits for 1 more.")
    expect(visit["#go-all"]).to_have_text("Detail 1 more")


def test_a_file_that_is_deleted_after_it_was_chosen_is_sent(
    relayed: Visit, two: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(two, tmp_path / "gone.png"))
    relayed.choose(file)
    expect(relayed["#title"]).to_have_text("gone.png, 400 × 220")
    file.unlink()
    relayed.detail()


def test_a_file_that_cannot_be_read_is_told_so(relayed: Visit, two: Path) -> None:
    relayed.page.evaluate(
        "() => { File.prototype.arrayBuffer = () => Promise.reject(new Error('unreadable')); }"
    )
    relayed.choose(two)
    expect(relayed["#problem"]).to_contain_text("The file cannot be read")
    expect(relayed["#go"]).to_be_disabled()


def test_what_the_server_will_not_take_is_not_sent(browser: Browser, tmp_path: Path) -> None:
    files = {
        "wide.png": "the picture has 200 × 40 pixels, at most 160 pixels a side are allowed",
        "many.png": "the picture has 150 × 150 pixels, at most 20000 pixels are allowed",
        "long.tif": "the request is larger than 60000 bytes",
        "empty.png": "the file is empty",
    }
    (tmp_path / "wide.png").write_bytes(encoded(200, 40))
    (tmp_path / "many.png").write_bytes(encoded(150, 150))
    (tmp_path / "long.tif").write_bytes(b"II*\0" + bytes(60_000))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "good.png").write_bytes(encoded(100, 100))
    limits = {"max_side_px": 160, "max_image_pixels": 20_000, "max_body_bytes": 60_000}
    settings = Settings(data_dir=tmp_path / "data", **limits)
    with running(settings) as service, visiting(browser, service.url) as visit:
        visit.use_key(service.new_key("1"))
        for name, words in files.items():
            visit.choose(tmp_path / name)
            expect(visit["#problem"]).to_have_text(f"Invalid image: {words}")
            expect(visit["#go"]).to_be_disabled()
            expect(visit["#find"]).to_be_disabled()
        visit.choose(tmp_path / "good.png")
        expect(visit["#problem"]).to_be_hidden()
        expect(visit["#go-all"]).to_have_text("Detail 1 more")
        visit["#go-all"].click()
        expect(visit["#outcome"]).to_be_visible()
        assert sum(url.endswith("/v2/face-detailer") for url in visit.asked) == 1


def test_its_words_are_those_of_the_server(tmp_path: Path) -> None:
    """What the page says before sending is what the server would say after."""
    limits = {"max_side_px": 160, "max_image_pixels": 20_000, "max_body_bytes": 60_000}
    said = []
    with running(Settings(data_dir=tmp_path, **limits)) as service:
        key = service.new_key("1")
        for data in (encoded(200, 40), encoded(150, 150), bytes(60_000), b"", SVG.encode()):
            reply = service.client.post(
                "/v2/face-detailer",
                headers={"x-api-key": key},
                files={"image": ("a.png", io.BytesIO(data))},
                data={"prompt": "", "denoise": "0"},
            )
            said.append(reply.json()["error"].removeprefix("Invalid image: "))
    assert said == [
        "the picture has 200 × 40 pixels, at most 160 pixels a side are allowed",
        "the picture has 150 × 150 pixels, at most 20000 pixels are allowed",
        "the request is larger than 60000 bytes",
        "the file is empty",
        NO_PICTURE.removeprefix("Invalid image: "),
    ]
