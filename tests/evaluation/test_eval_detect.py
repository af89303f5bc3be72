"""`face-detailer eval detect`: scenes of known faces, how detections are counted, the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from evaluation.detect.scenes import LARGEST_SIDE_PX, MOST_FACES, Scene, compose
from evaluation.detect.scoring import TURNED, UPRIGHT, measure, size_names
from evaluation.matching import match
from evaluation.portraits import Portrait
from pipeline.types import FaceBox, Image

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"
FACE = FaceBox(180, 70, 272, 178, 1.0)


@pytest.fixture(scope="module")
def drawn() -> Portrait:
    """A "face" that tells how it lies: above red, below blue, on grey."""
    pixels = np.full((300, 300, 3), 128, np.uint8)
    pixels[100:150, 110:190] = (255, 0, 0)
    pixels[150:200, 110:190] = (0, 0, 255)
    return Portrait(Image(pixels), FaceBox(110, 100, 190, 200, 1.0))


GREY = [Image(np.full((400, 600, 3), 128, np.uint8))]
# Where red lies in a face of so many turns: dx, dy from the middle.
RED_SIDE = ((0, -1), (1, 0), (0, 1), (-1, 0))


def test_faces_are_where_the_scene_says_and_lie_so(drawn: Portrait) -> None:
    turns = set()
    for index in range(12):
        scene = compose([drawn], GREY, seed=4, index=index)
        pixels = scene.image.pixels.astype(int)
        for face in scene.faces:
            turns.add(face.quarter_turns)
            x, y = face.centre_xy
            dx, dy = RED_SIDE[face.quarter_turns]
            step_x, step_y = 0.35 * face.width_px, 0.35 * face.height_px
            red = pixels[round(y + dy * step_y), round(x + dx * step_x)]
            blue = pixels[round(y - dy * step_y), round(x - dx * step_x)]
            assert red[0] > red[2] + 100
            assert blue[2] > blue[0] + 100
            # Just outside the box there is no colour.
            for outside_x in (face.x0 - 0.06 * face.width_px - 1, face.x1 + 0.06 * face.width_px):
                if 0 <= outside_x < scene.image.width_px:
                    assert np.ptp(pixels[round(y), int(outside_x)]) < 100
    assert turns == {0, 1, 2, 3}


@pytest.mark.slow
def test_scenes_are_as_varied_as_promised(drawn: Portrait) -> None:
    scenes = [compose([drawn], GREY, seed=0, index=index) for index in range(24)]
    sizes = [max(face.width_px, face.height_px) for scene in scenes for face in scene.faces]
    sides = [side for scene in scenes for side in scene.image.pixels.shape[:2]]
    assert min(sizes) < 32
    assert max(sizes) > 500
    assert 2000 < max(sides) <= LARGEST_SIDE_PX
    assert 20 < max(len(scene.faces) for scene in scenes) <= MOST_FACES
    for scene in scenes:
        for face in scene.faces:
            assert min(face.x0, face.y0) >= 0
            assert face.x1 <= scene.image.width_px
            assert face.y1 <= scene.image.height_px


@pytest.mark.parametrize("backgrounds", [GREY, []], ids=["grey", "clouds"])
def test_the_same_seed_gives_the_same_scene(drawn: Portrait, backgrounds: list[Image]) -> None:
    first, again, other = (compose([drawn], backgrounds, seed, 1) for seed in (5, 5, 6))
    assert np.array_equal(first.image.pixels, again.image.pixels)
    assert first.faces == again.faces
    assert first.faces != other.faces


def test_each_face_is_met_once_and_by_the_best() -> None:
    faces = [FaceBox(0, 0, 10, 10, 1.0), FaceBox(100, 0, 110, 10, 1.0), FaceBox(0, 50, 9, 59, 1.0)]
    best, twice = FaceBox(0, 1, 10, 10, 0.9), FaceBox(0, 0, 10, 10, 0.8)
    shifted = FaceBox(104, 0, 114, 10, 0.7)
    assert match(faces, [best, twice, shifted]) == [best, None, None]
    near = FaceBox(103, 0, 113, 10, 0.7)
    assert match(faces, [near]) == [None, near, None]


def test_figures_by_size_and_turn() -> None:
    scene = Scene(
        Image(np.zeros((1000, 1000, 3), np.uint8)),
        (
            FaceBox(0, 0, 30, 40, 1.0),
            FaceBox(100, 0, 140, 40, 1.0),
            FaceBox(200, 0, 300, 80, 1.0, 3),
            FaceBox(300, 300, 900, 900, 1.0, 2),
        ),
    )
    detections = [
        FaceBox(0, 0, 30, 40, 0.9),
        FaceBox(200, 0, 300, 80, 0.8, 1),
        FaceBox(300, 300, 900, 890, 0.7, 2),
        FaceBox(500, 0, 540, 40, 0.6),
        FaceBox(600, 0, 700, 70, 0.6, 1),
    ]
    figures = measure([(scene, detections), (scene, [])])
    small = figures.sum(["32–64 px"], [UPRIGHT])
    assert (small.faces, small.recall, small.precision, small.turn_right) == (4, 0.25, 0.5, 1.0)
    middle = figures.sum(["64–128 px"], TURNED)
    assert (middle.faces, middle.recall, middle.precision, middle.turn_right) == (2, 0.5, 0.5, 0.0)
    filling = figures.sum(["fills the picture"], ["180°"])
    assert (filling.faces, filling.recall, filling.precision) == (2, 0.5, 1.0)
    nothing = figures.sum(["24–32 px"], [UPRIGHT, *TURNED])
    assert (nothing.faces, nothing.recall, nothing.precision) == (0, None, None)
    everything = figures.sum(size_names(), [UPRIGHT, *TURNED])
    assert (everything.faces, everything.recall, everything.precision) == (8, 3 / 8, 3 / 5)


@pytest.mark.slow
def test_the_command_measures_the_embedded_profile(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "faces").mkdir()
    with PIL.Image.open(ASTRONAUT) as picture:
        picture.convert("RGB").crop((80, 0, 380, 260)).save(tmp_path / "faces" / "a.png")
    written = tmp_path / "figures.json"
    options = ["detect", "--data", tmp_path / "faces", "--scenes", "3", "--json", written]
    code, out, _ = evaluate(*options)
    assert code == 0
    assert "1 of 1 portraits, boxes: the detector's own" in out
    assert "all from 32 px" in out
    assert (tmp_path / "figures-chart.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads(written.read_text())
    assert (figures["profile"], figures["scenes"], figures["boxes"]) == ("tiny", 3, "own")
    everything = figures["turns"]["all"]
    assert everything["faces"] >= 3
    assert everything["recall"] >= 0.8
    assert everything["precision"] >= 0.8

    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"a.png": [{"box": [0, 180, 60, 250]}]}))
    code, out, _ = evaluate(*options, "--labels", labels)
    assert (code, "boxes: labels.json" in out) == (0, True)
    assert json.loads(written.read_text())["turns"]["all"]["recall"] < 0.2


def test_what_cannot_be_measured_is_told_in_a_sentence(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = evaluate("detect", "--data", tmp_path)
    assert (code, out, err) == (1, "", f"face-detailer: There are no pictures in {tmp_path}.\n")
    PIL.Image.new("RGB", (80, 60), "teal").save(tmp_path / "empty.png")
    code, _, err = evaluate("detect", "--data", tmp_path)
    assert code == 1
    assert err.endswith("face-detailer: No picture has exactly one upright face.\n")
    labels = tmp_path / "labels.json"
    labels.write_text('{"empty.png": [{"box": [1, 2, 3]}]}')
    code, _, err = evaluate("detect", "--data", tmp_path, "--labels", labels)
    assert code == 1
    assert "labels.json should be JSON such as" in err
