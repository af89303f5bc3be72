"""Damage to pictures, like that of small, old and often forwarded ones; seeded, so repeatable."""

import random
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import Image


@dataclass(frozen=True, slots=True)
class Damage:
    """One recipe, applied in this order.

    `blur_px`: sigma of a Gaussian blur, before the shrinking. `shrink`: factor of down- and
    up-scaling. `noise`: standard deviation in levels (0–255), added to the small picture.
    `jpeg_quality`: 1–100 on the small picture, 0 for none.
    `cast`: gain per channel (R, G, B).
    """

    blur_px: float = 0.0
    shrink: float = 1.0
    noise: float = 0.0
    jpeg_quality: int = 0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Level:
    """`shrink`: the factor's range, log-uniform; the others as in `Damage`."""

    shrink: tuple[float, float]
    noise: float
    jpeg_quality: int


LEVELS = {
    "none": Level((1.0, 1.0), noise=0, jpeg_quality=0),
    "light": Level((1.75, 2.25), noise=2, jpeg_quality=85),
    "medium": Level((3.0, 4.0), noise=4, jpeg_quality=65),
    "heavy": Level((6.0, 8.0), noise=6, jpeg_quality=40),
    "noisy": Level((1.0, 1.0), noise=20, jpeg_quality=0),
    "blocky": Level((1.0, 1.0), noise=0, jpeg_quality=10),
}


def damaged(clean: Image, name: str, level: str, seed: int) -> Image:
    """The picture at one of `LEVELS`; `name`, `level` and `seed` alone decide the factor and the
    noise.
    """
    recipe = LEVELS[level]
    rng = np.random.default_rng((seed, zlib.crc32(f"{name}/{level}".encode())))
    low, high = recipe.shrink
    damage = Damage(
        shrink=float(low * (high / low) ** rng.random()),
        noise=recipe.noise,
        jpeg_quality=recipe.jpeg_quality,
    )
    return Image(apply_damage(clean.pixels, damage, rng))


def apply_damage(
    rgb: NDArray[np.uint8], damage: Damage, noise: np.random.Generator
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB → the same shape, damaged. `noise`: where its noise is drawn from."""
    height, width = rgb.shape[:2]
    pixels = rgb.astype(np.float32)
    if damage.blur_px > 0:
        pixels = cv2.GaussianBlur(pixels, (0, 0), damage.blur_px)
    small_wh = (max(1, round(width / damage.shrink)), max(1, round(height / damage.shrink)))
    pixels = cv2.resize(pixels, small_wh, interpolation=cv2.INTER_AREA) * np.asarray(
        damage.cast, np.float32
    )
    if damage.noise > 0:
        pixels = pixels + noise.normal(0, damage.noise, pixels.shape).astype(np.float32)
    small = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    if damage.jpeg_quality:
        quality = [cv2.IMWRITE_JPEG_QUALITY, damage.jpeg_quality]
        _, data = cv2.imencode(".jpg", small[..., ::-1], quality)
        small = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    enlarged = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(enlarged)


def draw_damage(rng: random.Random) -> Damage:
    """A recipe for training: none now and then, else anything from almost nothing to a 25-px face,
    heavy damage in two of five.
    """
    kind = rng.random()
    if kind < 0.06:
        return Damage()
    if kind < 0.46:
        return Damage(
            shrink=rng.uniform(3.5, 6.5),
            noise=rng.uniform(2, 9),
            jpeg_quality=rng.randint(30, 70),
        )
    shrink = 1.2 * (6.5 / 1.2) ** rng.random()
    return Damage(
        blur_px=rng.uniform(0, 1.5) if rng.random() < 0.5 else 0.0,
        shrink=shrink,
        noise=rng.uniform(1, 12) if rng.random() < 0.7 else 0.0,
        jpeg_quality=rng.randint(30, 92) if rng.random() < 0.7 else 0,
        cast=_draw_cast(rng) if rng.random() < 0.25 else (1.0, 1.0, 1.0),
    )


def _draw_cast(rng: random.Random) -> tuple[float, float, float]:
    return rng.uniform(0.93, 1.07), rng.uniform(0.93, 1.07), rng.uniform(0.93, 1.07)
