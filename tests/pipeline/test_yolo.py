"""The detector: what it finds in pictures, and what it leaves alone on the machine."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import weights
from pipeline.config import DetectorConfig
from pipeline.errors import Stopped, WeightsError
from pipeline.models.yolo import YoloDetector, load_detector
from pipeline.types import FaceBox, Image

TINY = Path(weights.__file__).parent / "tiny"
ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"
CONFIG = DetectorConfig("detector/yolov8-face.yaml", "detector/model.safetensors", 640, 0.3)
# Where the face is in astronaut.png, by eye: forehead to chin, cheek to cheek.
ASTRONAUT_FACE = (180, 70, 272, 178)


@pytest.fixture(scope="module")
def detector() -> YoloDetector:
    return load_detector(TINY, CONFIG, "cpu")


@pytest.fixture(scope="module")
def astronaut() -> NDArray[np.uint8]:
    bgr = cv2.imread(str(ASTRONAUT), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def damaged(rgb: NDArray[np.uint8], factor: float, noise: float, quality: int) -> NDArray[np.uint8]:
    small = cv2.resize(rgb, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), 0.8).astype(np.float32)
    noisy = blurred + np.random.default_rng(3).normal(0, noise, blurred.shape)
    data = cv2.imencode(".jpg", noisy.clip(0, 255), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


def iou(box: FaceBox, other: tuple[float, ...]) -> float:
    width = min(box.x1, other[2]) - max(box.x0, other[0])
    height = min(box.y1, other[3]) - max(box.y0, other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = box.width_px * box.height_px + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (areas - shared)


@pytest.mark.parametrize(
    ("factor", "noise", "quality"), [(1.0, 0, 95), (2.0, 8, 40), (3.0, 12, 30), (4.0, 8, 40)]
)
def test_finds_the_astronaut_however_damaged(
    detector: YoloDetector,
    astronaut: NDArray[np.uint8],
    factor: float,
    noise: float,
    quality: int,
) -> None:
    picture = Image(damaged(astronaut, factor, noise, quality))
    (faces,) = detector.detect([picture], CONFIG.threshold)
    where = tuple(value / factor for value in ASTRONAUT_FACE)
    # Shrunk to a third under noise, a patch on the suit may pass for a second, lesser face.
    assert len(faces) == 1 or (factor > 2 and len(faces) == 2)
    assert iou(faces[0], where) > 0.6


def test_finds_a_small_face_in_a_wide_scene(
    detector: YoloDetector, astronaut: NDArray[np.uint8]
) -> None:
    scene = np.full((500, 1200, 3), (120, 140, 110), np.uint8)
    scene[300:428, 900:1028] = cv2.resize(astronaut, (128, 128), interpolation=cv2.INTER_AREA)
    (faces,) = detector.detect([Image(scene)], CONFIG.threshold)
    where = tuple(
        value / 4 + offset for value, offset in zip(ASTRONAUT_FACE, (900, 300) * 2, strict=True)
    )
    assert iou(faces[0], where) > 0.5


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (700, 3), (33, 65), (480, 640)])
def test_finds_nothing_in_a_flat_picture_of_any_shape(
    detector: YoloDetector, shape: tuple[int, int]
) -> None:
    picture = Image(np.full((*shape, 3), 90, np.uint8))
    assert detector.detect([picture], CONFIG.threshold) == [[]]


def test_boxes_stay_inside_and_come_best_first(
    detector: YoloDetector, astronaut: NDArray[np.uint8]
) -> None:
    half = np.ascontiguousarray(astronaut[90:, 200:])
    (faces,) = detector.detect([Image(half)], 0.02)
    assert len(faces) > 1
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    for face in faces:
        assert face.x0 >= 0
        assert face.y0 >= 0
        assert face.x1 <= half.shape[1]
        assert face.y1 <= half.shape[0]


def test_a_higher_threshold_keeps_only_the_better_faces(
    detector: YoloDetector, astronaut: NDArray[np.uint8]
) -> None:
    (many,) = detector.detect([Image(astronaut)], 0.02)
    best = many[0].score
    (few,) = detector.detect([Image(astronaut)], best)
    assert [face.score for face in few] == [best]
    assert detector.detect([Image(astronaut)], 1.0) == [[]]


def test_between_batches_it_asks_whether_to_stop(detector: YoloDetector) -> None:
    pictures = [Image(np.zeros((640, 640, 3), np.uint8))] * 9
    answers = iter([False, True])
    with pytest.raises(Stopped):
        detector.detect(pictures, 0.3, lambda: next(answers))


def test_threads_with_pictures_of_different_shapes_do_not_disturb_each_other(
    detector: YoloDetector, astronaut: NDArray[np.uint8]
) -> None:
    pictures = [
        Image(astronaut),
        Image(np.ascontiguousarray(astronaut[:256])),
        Image(np.ascontiguousarray(astronaut[:, 100:340])),
    ]
    alone = [detector.detect([picture], 0.1) for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda picture: detector.detect([picture], 0.1), pictures * 2))
    assert together == alone * 2


def test_missing_and_unfit_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing"):
        load_detector(tmp_path, CONFIG, "cpu")
    (tmp_path / "detector").mkdir()
    yaml = (TINY / CONFIG.yaml).read_bytes()
    (tmp_path / CONFIG.yaml).write_bytes(yaml)
    state = load_file(TINY / CONFIG.weights)
    state.pop("model.0.conv.weight")
    save_file(state, tmp_path / CONFIG.weights)
    with pytest.raises(WeightsError, match=r"model\.0\.conv\.weight"):
        load_detector(tmp_path, CONFIG, "cpu")
    (tmp_path / CONFIG.weights).write_bytes(b"not safetensors")
    with pytest.raises(WeightsError, match="do not fit"):
        load_detector(tmp_path, replace(CONFIG, input_px=320), "cpu")


@pytest.mark.slow
def test_importing_leaves_nothing_behind_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    script = (
        "import pipeline.models.yolo, ultralytics.utils as u\n"
        "assert not u.SETTINGS['sync'] and not u.AUTOINSTALL and not u.ONLINE\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    environment = {**kept, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=Path(weights.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert list((tmp_path / "home").iterdir()) == []
    assert list((tmp_path / "tmp").rglob("*ltralytics*")) == []
    assert list((tmp_path / "tmp").glob("face-detailer-*")) == []
