"""Photographs shrunk, and enlarged again by the profile's upscaler and by Lanczos."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import PIL.Image

from evaluation.measures import luma, psnr_db, ssim_map
from evaluation.portraits import read_image
from pipeline.detailer import FaceDetailer
from pipeline.request import DetailRequest, Recipe
from pipeline.types import Image

# A picture whose sides are multiples of this shrinks to whole pixels by every factor.
_GRID_PX = 4
# What SSIM's window needs of the smallest picture.
SMALLEST_PX = 64
TIMED_PX = 1024


@dataclass(frozen=True, slots=True)
class Quality:
    """Of an enlarged picture against the original: of RGB, and of the luma."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True, slots=True, eq=False)
class Enlarged:
    """One photograph, shrunk by `factor` and enlarged: `pictures` and `quality` by method."""

    name: str
    factor: int
    original: Image
    pictures: dict[str, Image]
    quality: dict[str, Quality]


def enlarge(
    files: Iterable[Path], detailer: FaceDetailer, factors: Sequence[int], largest_px: int
) -> Iterator[Enlarged]:
    """Every photograph at every factor, shrunk by area.

    Of a photograph the middle is taken, at most `largest_px` a side; those below SMALLEST_PX are
    left out.
    """
    for file in files:
        original = middle(read_image(file), largest_px)
        if min(original.width_px, original.height_px) < SMALLEST_PX:
            continue
        for factor in factors:
            size_wh = (original.width_px // factor, original.height_px // factor)
            small = cv2.resize(original.pixels, size_wh, interpolation=cv2.INTER_AREA)
            reduced = Image(np.ascontiguousarray(small, dtype=np.uint8))
            pictures = {
                "Lanczos": _lanczos(reduced, factor),
                "upscaler": upscaled(detailer, reduced, factor),
            }
            quality = {name: _quality(picture, original) for name, picture in pictures.items()}
            yield Enlarged(file.name, factor, original, pictures, quality)


def middle(image: Image, largest_px: int) -> Image:
    """The picture's middle: each side as long as it is, at most `largest_px`, a multiple of 4."""

    def span(side_px: int) -> slice:
        kept = min(side_px, largest_px) // _GRID_PX * _GRID_PX
        start = (side_px - kept) // 2
        return slice(start, start + max(kept, 1))

    return Image(np.ascontiguousarray(image.pixels[span(image.height_px), span(image.width_px)]))


def seconds(detailer: FaceDetailer) -> float:
    """How long TIMED_PX² of noise takes to become twice as wide and high."""
    noise = np.random.default_rng(0).integers(0, 256, (TIMED_PX, TIMED_PX, 3), np.uint8)
    started = perf_counter()
    upscaled(detailer, Image(noise), 2)
    return perf_counter() - started


def upscaled(detailer: FaceDetailer, image: Image, factor: int) -> Image:
    """What a request gets that has no face repainted."""
    request = DetailRequest(image, Recipe("", denoise=0, upscale=factor))
    return detailer.detail_faces(request, []).images[0]


def _lanczos(image: Image, factor: int) -> Image:
    size_wh = (image.width_px * factor, image.height_px * factor)
    large = PIL.Image.fromarray(image.pixels).resize(size_wh, PIL.Image.Resampling.LANCZOS)
    return Image(np.array(large))


def _quality(picture: Image, original: Image) -> Quality:
    similarity = ssim_map(luma(picture), luma(original)).mean()
    return Quality(psnr_db(picture.pixels, original.pixels), float(similarity))
