"""The last step: pictures of several samples, enlarged."""

from collections.abc import Sequence

from pipeline.stages import OnPixels, Upscaler
from pipeline.tint import keep_tint
from pipeline.types import Image


def enlarge(
    pictures: Sequence[Image], factor: int, upscaler: Upscaler, on_pixels: OnPixels
) -> tuple[Image, ...]:
    """Pictures `factor` (2 or 4) times as wide and as high, in their own tint.

    Samples that share their picture share the enlarged one too. `on_pixels`: see `Upscaler`.
    """
    large: dict[int, Image] = {}
    for picture in pictures:
        if id(picture) not in large:
            large[id(picture)] = keep_tint(upscaler.upscale(picture, factor, on_pixels), picture)
    return tuple(large[id(picture)] for picture in pictures)
