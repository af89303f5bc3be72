"""`face-detailer eval masks`: masks in the picture's frame, what is counted, the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from evaluation.masks.overlap import Masked, mask_faces
from evaluation.masks.run import Row, summary
from pipeline.config_reading import read_profile
from pipeline.geometry import turned
from pipeline.models.sam import SamSegmenter, load_segmenter
from pipeline.types import FaceBox
from weights.manifest import PACKAGE_DIR

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"
SIDE_PX = 512
FACE = FaceBox(180, 70, 272, 178, 1.0)
TINY = read_profile(PACKAGE_DIR / "tiny")
TURN = np.linspace(0, 2 * np.pi, 72, endpoint=False)


def ellipse(box: FaceBox) -> NDArray[np.float32]:
    """The outline of the ellipse in a box."""
    x, y = box.centre_xy
    points = [x + box.width_px / 2 * np.cos(TURN), y + box.height_px / 2 * np.sin(TURN)]
    return np.column_stack(points).astype(np.float32)


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    return load_segmenter(TINY.folder, TINY.segmenter, "cpu")


@pytest.mark.parametrize("turns", range(4))
def test_masks_lie_where_the_face_lies(segmenter: SamSegmenter, tmp_path: Path, turns: int) -> None:
    with PIL.Image.open(ASTRONAUT) as picture:
        pixels = np.rot90(np.array(picture.convert("RGB")), -turns)
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a.png")
    # The pipeline's ellipse reaches a tenth of the height above the box.
    oval = ellipse(FaceBox(FACE.x0, FACE.y0 - 0.1 * FACE.height_px, FACE.x1, FACE.y1, 1.0))
    for _ in range(turns):
        oval = np.column_stack([SIDE_PX - oval[:, 1], oval[:, 0]])
    face = turned(FACE, SIDE_PX, SIDE_PX, -turns)
    (masked,) = mask_faces(
        [tmp_path / "a.png"],
        {"a.png": [oval]},
        lambda _: [face],
        segmenter,
        TINY.detail,
    )
    assert isinstance(masked, Masked)
    assert masked.ellipse_iou is not None
    assert masked.ellipse_iou > 0.97
    assert masked.iou is not None
    assert masked.iou > 0.75
    assert not masked.fell_back


def test_what_was_not_found_is_counted_apart() -> None:
    rows = [
        Row("a", 0.9, 0.8, fell_back=False),
        Row("b", 0.7, 0.7, fell_back=True),
        Row("c", None, None, fell_back=False),
    ]
    figures = summary(rows)
    assert (figures["faces"], figures["not_found"], figures["fell_back"]) == (3, 1, 1)
    assert figures["mask"] == {
        "mean_iou": pytest.approx(0.8),
        "worst_iou": 0.7,
        "bad_share": 0.5,
    }
    assert figures["ellipse"]["mean_iou"] == 0.75
    nothing = {"mean_iou": None, "worst_iou": None, "bad_share": None}
    assert summary(rows[2:])["mask"] == nothing


def test_the_command_measures_the_embedded_profile(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    labels, written = tmp_path / "faces.json", tmp_path / "figures.json"
    entries = [
        {"oval": ellipse(FACE).tolist(), "box": [180, 70, 272, 178]},
        # A face where none is, and one that the teacher gave no outline.
        {"oval": ellipse(FaceBox(20, 300, 120, 420, 1.0)).tolist(), "box": [20, 300, 120, 420]},
        {"oval": [], "box": [300, 300, 400, 400]},
    ]
    labels.write_text(json.dumps({"astronaut.png": entries, "elsewhere.png": entries}))
    options = ["masks", "--data", ASTRONAUT.parent, "--labels", labels]
    sheet = tmp_path / "sheet.png"
    code, out, _ = evaluate(*options, "--json", written, "--sheet", sheet)
    assert code == 0
    assert "2 labelled faces, 1 of them not found; the ellipse served for 0" in out
    figures = json.loads(written.read_text())
    assert (figures["profile"], figures["not_found"]) == ("tiny", 1)
    assert (tmp_path / "figures-chart.png").read_bytes().startswith(b"\x89PNG")
    assert 0.75 < figures["mask"]["mean_iou"] < 1
    assert [row["iou"] is None for row in figures["rows"]] == [False, True]
    with PIL.Image.open(sheet) as picture:
        colours = {colour for _, colour in picture.getcolors(2**24)}
    assert {(0, 255, 0), (255, 0, 0)} & colours


def test_what_cannot_be_measured_is_told_in_a_sentence(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    labels = tmp_path / "faces.json"
    options = ["masks", "--data", ASTRONAUT.parent, "--labels", labels]
    code, _, err = evaluate(*options)
    assert (code, err) == (1, f"face-detailer: {labels}: No such file or directory\n")
    labels.write_text('{"astronaut.png": [{"box": [1, 2, 3, 4]}]}')
    code, _, err = evaluate(*options)
    assert (code, "faces.json should be JSON such as" in err) == (1, True)
    labels.write_text('{"elsewhere.png": []}')
    code, _, err = evaluate(*options)
    assert code == 1
    assert f"{labels} has no outline for a picture in {ASTRONAUT.parent}." in err
