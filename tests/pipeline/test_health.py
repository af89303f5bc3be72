"""Which faces count as badly damaged."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.damages import Damage, apply_damage
from pipeline.health import (
    BAD_SHARPNESS,
    BAD_SIDE_PX,
    GOOD_SHARPNESS,
    GOOD_SIDE_PX,
    HEALTHY_STRENGTH,
    is_badly_damaged,
    sharpness,
    strength_share,
)
from pipeline.types import FaceBox, Image

Pixels = np.ndarray

EXAMPLES = Path(__file__).parents[2] / "examples"
ASTRONAUT = cv2.cvtColor(cv2.imread(str(EXAMPLES / "astronaut.png")), cv2.COLOR_BGR2RGB)
FACE = FaceBox(177, 68, 269, 158, 0.9)


def damaged(shrink: float, noise: float = 0.0, jpeg_quality: int = 0) -> Image:
    recipe = Damage(shrink=shrink, noise=noise, jpeg_quality=jpeg_quality)
    return Image(apply_damage(ASTRONAUT, recipe, np.random.default_rng(0)))


def shapes(side_px: int) -> Image:
    """Light shapes on dark ground, sharp-edged at every size, as large in the picture."""
    coarse = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    smooth = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    return Image(np.repeat(np.where(smooth > 0, 200, 60)[..., None], 3, 2).astype(np.uint8))


def scaled(image: Image, factor: float) -> tuple[Image, FaceBox]:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(image.pixels, None, fx=factor, fy=factor, interpolation=how)
    corners = (factor * side for side in (FACE.x0, FACE.y0, FACE.x1, FACE.y1))
    return Image(np.ascontiguousarray(pixels)), FaceBox(*corners, 0.9)


def test_the_examples_face_is_sound_and_its_damaged_one_is_bad():
    bad = cv2.cvtColor(cv2.imread(str(EXAMPLES / "astronaut-damaged.jpg")), cv2.COLOR_BGR2RGB)
    assert not is_badly_damaged(Image(ASTRONAUT), FACE)
    assert is_badly_damaged(Image(bad), FACE)


@pytest.mark.parametrize("shrink", [4.0, 6.0])
@pytest.mark.parametrize(("noise", "jpeg_quality"), [(0.0, 0), (8.0, 0), (8.0, 50)])
def test_a_face_shrunk_four_times_is_bad_also_under_noise(shrink, noise, jpeg_quality):
    assert is_badly_damaged(damaged(shrink, noise, jpeg_quality), FACE)


def test_more_damage_is_less_sharp():
    measured = [sharpness(damaged(shrink), FACE) for shrink in (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)]
    assert measured == sorted(measured, reverse=True)
    assert measured[0] > BAD_SHARPNESS > measured[-2]


def test_the_pictures_resolution_hides_no_damage_and_makes_none():
    for factor in (1.3, 2.0, 3.0):
        assert not is_badly_damaged(*scaled(Image(ASTRONAUT), factor))
        assert is_badly_damaged(*scaled(damaged(4.0), factor))


def test_a_face_of_few_pixels_is_bad_however_sharp():
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    pixels[:16] = 128  # noise alone is not sharp
    sharp, side = Image(pixels), BAD_SIDE_PX
    assert not is_badly_damaged(sharp, FaceBox(0, 0, side + 1, side + 1, 1.0))
    assert is_badly_damaged(sharp, FaceBox(0, 0, side + 1, side - 1, 1.0))


@pytest.mark.parametrize(
    "box",
    [
        (-30, -30, 40, 40),
        (60, 60, 110, 110),
        (63.9, 0, 110, 64),
        (10.2, 9, 10.4, 60),
        (9, 10.2, 60, 10.4),
    ],
)
def test_a_face_at_the_border_or_thinner_than_a_pixel_is_measured(box):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert 0 <= sharpness(Image(pixels), FaceBox(*box, 1.0)) < 1


def test_a_face_without_any_contrast_is_bad():
    assert is_badly_damaged(Image(np.full((64, 64, 3), 90, np.uint8)), FaceBox(0, 0, 64, 64, 1.0))


def test_only_large_and_sharp_faces_take_less_strength():
    soft = np.repeat(np.linspace(0, 255, 512, dtype=np.uint8)[:, None, None], 512, 1).repeat(3, 2)
    large, small = (FaceBox(0, 0, side, side, 1.0) for side in (GOOD_SIDE_PX, BAD_SIDE_PX))
    sharp = shapes(round(GOOD_SIDE_PX))
    assert sharpness(sharp, large) > GOOD_SHARPNESS
    assert strength_share(sharp, large) == pytest.approx(HEALTHY_STRENGTH)
    assert strength_share(Image(soft), large) == 1
    assert strength_share(sharp, small) == 1


def test_strength_falls_steadily_as_a_sharp_face_grows():
    sides = (40, 80, 160, 220, 256, 400)
    shares = [strength_share(shapes(side), FaceBox(0, 0, side, side, 1.0)) for side in sides]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    assert shares[-1] == shares[-2] == pytest.approx(HEALTHY_STRENGTH)


# --- noise is not sharpness ---


def grain(sigma: float, size_px: float, colour: bool) -> Callable[[Pixels], Pixels]:
    def add(pixels: Pixels) -> Pixels:
        shape = (*pixels.shape[:2], 3 if colour else 1)
        noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), size_px) if size_px else noise
        noise = noise.reshape(shape) * sigma / noise.std()
        return np.clip(pixels + noise, 0, 255).astype(np.uint8)

    return add


def jpeg(quality: int) -> Callable[[Pixels], Pixels]:
    def code(pixels: Pixels) -> Pixels:
        _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(file, cv2.IMREAD_COLOR)

    return code


def text(pixels: Pixels) -> Pixels:
    its = pixels.copy()
    cv2.putText(its, "SAMPLE 1987", (150, 330), cv2.FONT_HERSHEY_SIMPLEX, 1.8, (255, 255, 255), 4)
    return its


def halftone(pixels: Pixels) -> Pixels:
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] * (2 * np.pi / 6)
    dots = 30 * (np.cos(x + y) + np.cos(x - y))
    return np.clip(pixels + dots[..., None], 0, 255).astype(np.uint8)


COVERS = {
    "sensor noise": grain(14, 0, colour=True),
    "strong noise": grain(25, 0, colour=True),
    "film grain": grain(15, 1.2, colour=False),
    "JPEG": jpeg(15),
    "text": text,
    "halftone": halftone,
}
LARGE = FaceBox(165, 140, 435, 470, 0.9)


def large_portrait(shrink: float) -> Pixels:
    """The astronaut's face, 300 px high, as soft as one of 300 / `shrink`."""
    portrait = ASTRONAUT[20:220, 120:320]
    side = round(600 / shrink)
    how = cv2.INTER_AREA if side < 200 else cv2.INTER_CUBIC
    return cv2.resize(
        cv2.resize(portrait, (side, side), interpolation=how),
        (600, 600),
        interpolation=cv2.INTER_CUBIC,
    )


@pytest.mark.parametrize("cover", COVERS)
def test_what_lies_on_a_soft_face_makes_it_no_healthier(cover):
    soft = Image(COVERS[cover](large_portrait(shrink=10)))
    assert is_badly_damaged(soft, LARGE)
    assert strength_share(soft, LARGE) > 0.95


@pytest.mark.parametrize("cover", ["sensor noise", "film grain", "JPEG"])
def test_noise_makes_no_sharp_face_bad(cover):
    sharp = Image(COVERS[cover](ASTRONAUT))
    assert not is_badly_damaged(sharp, FACE)
