"""Damage pictures as small, old and much-forwarded ones are damaged: seeded, so repeatable."""

import random
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


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


def _draw_cast(rng: random.Random) -> tuple[float, float, float]:
    return rng.uniform(0.93, 1.07), rng.uniform(0.93, 1.07), rng.uniform(0.93, 1.07)


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


def apply_damage(
    rgb: NDArray[np.uint8], damage: Damage, noise: np.random.Generator
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB → the same shape, damaged."""
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
