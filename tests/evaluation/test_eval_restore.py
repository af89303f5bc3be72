"""`face-detailer eval restore`: the damages, the figures, the seam, the command."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from evaluation.damages import LEVELS, damaged
from evaluation.likeness import Yardstick
from evaluation.measures import seam_step
from pipeline.models.dlib_faces import Embedder
from pipeline.types import FaceBox, Image

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"
FACE = FaceBox(180, 70, 272, 178, 1.0)


@pytest.fixture(scope="module")
def astronaut() -> Image:
    with PIL.Image.open(ASTRONAUT) as picture:
        return Image(np.array(picture.convert("RGB")))


@pytest.fixture(scope="module")
def yardstick(astronaut: Image) -> Yardstick:
    return Yardstick(astronaut, FACE, Embedder())


def changed(image: Image, where: NDArray[np.bool_], by: tuple[int, int, int]) -> Image:
    pixels = image.pixels.astype(int)
    pixels[where] += by
    return Image(np.clip(pixels, 0, 255).astype(np.uint8))


def test_the_clean_face_is_like_itself(yardstick: Yardstick, astronaut: Image) -> None:
    same = yardstick.measure(astronaut)
    assert same.psnr_db == pytest.approx(58.92, abs=0.01)
    assert (same.ssim, same.sharpness) == (pytest.approx(1), 1)
    assert (same.haarpsi, same.identity) == (pytest.approx(0, abs=1e-5), 0)


def test_all_figures_tell_of_more_damage(yardstick: Yardstick, astronaut: Image) -> None:
    light, medium, heavy = (
        yardstick.measure(damaged(astronaut, "a.png", level, 0))
        for level in ("light", "medium", "heavy")
    )
    assert light.psnr_db > medium.psnr_db > heavy.psnr_db
    assert light.ssim > medium.ssim > heavy.ssim
    assert light.haarpsi < medium.haarpsi < heavy.haarpsi
    assert light.identity < medium.identity < heavy.identity
    assert heavy.identity > 0.3
    blurred = Image(cv2.GaussianBlur(astronaut.pixels, (0, 0), 4))
    assert yardstick.measure(blurred).sharpness < 0.5


def test_only_the_face_counts(yardstick: Yardstick, astronaut: Image) -> None:
    beside = np.ones(astronaut.pixels.shape[:2], bool)
    beside[60:190, 170:282] = False
    other = yardstick.measure(changed(astronaut, beside, (40, -40, 40)))
    assert (other.psnr_db, other.sharpness) == (pytest.approx(58.92, abs=0.01), 1)
    assert (other.ssim, other.haarpsi) == (pytest.approx(1), pytest.approx(0, abs=1e-5))


def test_psnr_and_sharpness_are_what_their_formulas_say(yardstick: Yardstick) -> None:
    grey = Image(np.full((512, 512, 3), 128, np.uint8))
    flat = Yardstick(grey, FACE, Embedder())
    everywhere = np.ones((512, 512), bool)
    assert flat.measure(changed(grey, everywhere, (10, 10, 10))).psnr_db == pytest.approx(
        28.13, abs=0.01
    )
    assert yardstick.measure(grey).sharpness == 0


def disc(radius_px: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:200, :200] + 0.5
    return np.asarray(np.hypot(x - 100, y - 100) <= radius_px)


def step(before: Image, after: Image) -> float | None:
    return seam_step(before, after, disc(40), longer_px=100)


def test_the_seam_is_the_step_that_was_added() -> None:
    before = Image(np.full((200, 200, 3), 128, np.uint8))
    after = changed(before, disc(50), (10, 10, 10))
    # L* of the greys 128 and 138.
    assert step(before, after) == pytest.approx(57.47 - 53.59, abs=0.05)
    # A step that the picture had is none that was added.
    stepped = changed(before, disc(50), (30, 0, 0))
    rows, columns = np.indices((200, 200)) % 3
    freckled = changed(stepped, disc(50) & (rows + columns == 0), (6, 6, 6))
    assert step(before, stepped) > 10
    assert step(stepped, freckled) < 1


def test_shifts_that_differ_around_the_face_do_not_cancel() -> None:
    before = Image(np.full((200, 200, 3), 128, np.uint8))
    left = np.arange(200)[None] < 100
    after = changed(changed(before, disc(50) & left, (10, 10, 10)), disc(50) & ~left, (-10,) * 3)
    assert step(before, after) > 3.5


def test_what_grows_slowly_is_hardly_a_seam() -> None:
    before = Image(np.full((200, 200, 3), 128, np.uint8))
    y, x = np.mgrid[:200, :200] + 0.5
    share = np.clip((60 - np.hypot(x - 100, y - 100)) / 30, 0, 1)[..., None]
    after = Image((before.pixels + 10.49 * share).astype(np.uint8))
    sharp = changed(before, disc(60), (10, 10, 10))
    assert 0 < step(before, after) < 0.4 * step(before, sharp)
    assert step(before, before) is None


def test_the_same_picture_is_always_damaged_alike(astronaut: Image) -> None:
    def pixels(name: str, level: str, seed: int) -> NDArray[np.uint8]:
        return damaged(astronaut, name, level, seed).pixels

    assert np.array_equal(pixels("a", "none", 0), astronaut.pixels)
    for level in list(LEVELS)[1:]:
        assert np.array_equal(pixels("a", level, 0), pixels("a", level, 0))
        drawn = LEVELS[level].noise > 0
        for name, seed in (("b", 0), ("a", 1)):
            same = np.array_equal(pixels("a", level, 0), pixels(name, level, seed))
            assert same is not drawn


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A face, and a picture without one."""
    folder = tmp_path / "faces"
    folder.mkdir()
    with PIL.Image.open(ASTRONAUT) as picture:
        picture.convert("RGB").crop((130, 20, 330, 220)).save(folder / "a.png")
    PIL.Image.new("RGB", (80, 60), "teal").save(folder / "b.png")
    return folder


@pytest.mark.slow
def test_the_command_measures_the_whole_pipeline(
    evaluate: Callable[..., tuple[int, str, str]], faces: Path, tmp_path: Path
) -> None:
    written, sheet = tmp_path / "new" / "figures.json", tmp_path / "new" / "sheet.png"
    options = ["restore", "--data", faces, "--side", "300", "--json", written, "--sheet", sheet]
    code, out, err = evaluate(*options, "--levels", "heavy")
    assert code == 0
    assert [line.partition(",")[0] for line in err.splitlines()] == [
        "Loading profile tiny on cpu …",
        "Profile tiny on cpu",
    ]
    assert "1 of 2 pictures at 300 px, denoise 0.4" in out
    assert "identity" in out
    assert (tmp_path / "new" / "figures-chart.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(written.read_text())
    heavy = report["levels"]["heavy"]
    assert (report["profile"], list(report["levels"])) == ("tiny", ["heavy"])
    assert (heavy["faces"], heavy["not_found"]) == (1, 0)
    before, after = heavy["damaged"], heavy["result"]
    assert before["identity"] > 0.2
    assert all(before[name] != after[name] for name in before)
    assert heavy["identity_change"] == pytest.approx(after["identity"] / before["identity"] - 1)
    assert 0 < heavy["seam_delta_e"] < 3
    assert heavy["seconds"] > 0
    (row,) = report["pictures"]
    assert (row["name"], row["cases"]["heavy"]["result"]) == ("a.png", after)
    with PIL.Image.open(sheet) as picture:
        assert picture.size == (3 * 196, 16 + 212)


@pytest.mark.slow
def test_of_several_faces_the_largest_counts(
    evaluate: Callable[..., tuple[int, str, str]], faces: Path, tmp_path: Path
) -> None:
    boxes = [[60, 70, 80, 95], [50, 50, 142, 158], [5, 5, 25, 30]]
    labels, written = tmp_path / "labels.json", tmp_path / "figures.json"
    figures = []
    for known in (boxes, boxes[1:2]):
        labels.write_text(json.dumps({"a.png": [{"box": box} for box in known]}))
        options = ["restore", "--data", faces, "--labels", labels, "--json", written]
        assert evaluate(*options, "--denoise", "0", "--levels", "light")[0] == 0
        figures.append(json.loads(written.read_text())["levels"]["light"]["damaged"])
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_at_denoise_0_nothing_changes(
    evaluate: Callable[..., tuple[int, str, str]], faces: Path, tmp_path: Path
) -> None:
    written = tmp_path / "figures.json"
    options = ["restore", "--data", faces, "--denoise", "0", "--json", written]
    assert evaluate(*options, "--levels", "none,light")[0] == 0
    levels = json.loads(written.read_text())["levels"]
    for level in levels.values():
        assert level["damaged"] == level["result"]
        assert (level["not_found"], level["seam_delta_e"]) == (0, None)
    assert levels["none"]["damaged"]["psnr_db"] == pytest.approx(58.92, abs=0.01)
    assert (levels["none"]["identity_change"], levels["light"]["identity_change"]) == (None, 0)


def test_what_cannot_be_measured_is_told_in_a_sentence(
    evaluate: Callable[..., tuple[int, str, str]],
    faces: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["restore", "--data", faces]
    assert evaluate(*options, "--levels", "light,awful") == (
        2,
        "",
        "face-detailer: There is no level 'awful': none, light, medium, heavy, noisy, blocky.\n",
    )
    code, _, err = evaluate(*options, "--sheet", "sheet.gif")
    assert (code, err) == (2, "face-detailer: sheet.gif should end in .png.\n")
    # As where the package is not installed.
    monkeypatch.setitem(sys.modules, "dlib", None)
    code, out, err = evaluate(*options)
    assert (code, out) == (1, "")
    sentence = "Not installed: dlib-bin. Install the extra face-detailer[eval]."
    assert err == f"face-detailer: {sentence}\n"
