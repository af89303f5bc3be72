"""Levels of damage, drawn per picture from its name: the same picture is always damaged alike."""

import zlib
from dataclasses import dataclass

import numpy as np

from pipeline.types import Image
from weights.training.damage import Damage, apply_damage


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
}


def damaged(clean: Image, name: str, level: str, seed: int) -> Image:
    """The picture at one of `LEVELS`; `name`, `level` and `seed` alone tell the factor and the
    noise.
    """
    recipe = LEVELS[level]
    random = np.random.default_rng((seed, zlib.crc32(f"{name}/{level}".encode())))
    low, high = recipe.shrink
    damage = Damage(
        shrink=float(low * (high / low) ** random.random()),
        noise=recipe.noise,
        jpeg_quality=recipe.jpeg_quality,
    )
    return Image(apply_damage(clean.pixels, damage, random))
