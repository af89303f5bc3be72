"""The grain of a picture, film's or a sensor's, in faces repainted in it: as strong, or none."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.grain_tiles import (
    FLAT,
    LUMA,
    NODES,
    Floats,
    Tiles,
    by_luma,
    corners_of,
    measured,
    tile_at,
)
from pipeline.resampling import to_levels
from pipeline.types import Image, Share

# Grain is measured in square tiles of this side, of half of it about faces smaller than four.
_TILE_PX = 16
# Over the face, and this share of it around.
_AROUND = 0.6
# A pixel this much repainted counts as the face.
_WHOLLY = 0.9
# Standard deviation in levels: below the first no grain is seen, from the second on all is kept.
_SEEN, _STRONG = 3.0, 5.0
# Grain weaker than the picture's by less than the first share of it is not told from it by eye; by
# the second, all that is missing is added.
_ALIKE, _WEAKER = 0.1, 0.25
# The Gaussian that parts what is fine from what is light, and how much of it fades.
_SMOOTHED_PX = 2.0
_FADING = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class GrainyFace:
    """A face that was laid into a picture, and the grain of both; `grainy_face` measures it.

    `window`: rows and columns of the face and what is around it. `kept`: (H, W) in [0, 1], how much
    of that was repainted. `tile_px`, `inside`: side and corners of the tiles in the face; `had`,
    `has`: those, before and after. `around`: beside it; None where the picture ends with the face.
    """

    window: tuple[slice, slice]
    kept: Floats
    tile_px: int
    inside: Sequence[tuple[int, int]]
    had: Tiles
    has: Tiles
    around: Tiles | None

    def wanted(self) -> Floats:
        """The variance of the picture's own grain at each of `NODES`; NaN: not known."""
        inside = by_luma(self.had.luma, self.had.variance)
        if self.around is None:
            return inside
        # What is rougher in the face alone, or beside it alone, is no grain.
        outside: Floats = np.fmin(inside, by_luma(self.around.luma, self.around.variance))
        return outside

    def left(self) -> Floats:
        """The variance of what the repaint has of it, likewise."""
        # By the light that was there: the repaint's own is no other grain.
        return by_luma(self.had.luma, self.has.variance)


def grainy_face(
    picture: Image, original: Image, shares: Sequence[Share], longer_px: float
) -> GrainyFace | None:
    """Measure the grain of a repainted face and of its surroundings; None: there is no face.

    Args:
        picture: with the face laid in.
        original: before that, of the same size.
        shares: how much of it was laid in by each pass.
        longer_px: the face's longer side.
    """
    shares = [share for share in shares if share.values.size]
    if not shares:
        return None
    window = _window(shares, round(_AROUND * longer_px), original)
    kept = _together(shares, window)
    before, after = original.pixels[window], picture.pixels[window]
    tile_px = _TILE_PX if longer_px >= 4 * _TILE_PX else _TILE_PX // 2
    corners = corners_of(kept.shape, tile_px)
    inside = [at for at in corners if tile_at(kept, at, tile_px).min() > _WHOLLY]
    outside = [at for at in corners if tile_at(kept, at, tile_px).max() == 0]
    if not inside:
        return None
    had, has = measured(before, inside, tile_px), measured(after, inside, tile_px)
    around = measured(before, outside, tile_px) if outside else None
    return GrainyFace(window, kept, tile_px, inside, had, has, around)


def give_grain_back(picture: Image, face: GrainyFace, seed: int) -> Image:
    """The picture with as much grain in the face as around it and in it before: as strong at each
    brightness, as coarse, of the same colours. Where there was none, nothing changes.

    Args:
        picture: as measured.
        face: where.
        seed: of the grain, 0 or more.
    """
    wanted = face.wanted()
    lacking = _levels(_lacking(wanted, face.left()), wanted)
    if not lacking.any():
        return picture
    noise = _noise(face.had, face.has, face.kept.shape, np.random.default_rng(seed))
    # What the same measure reads of it, which is less the coarser it is.
    noise /= np.sqrt(np.quantile(measured(noise, face.inside, face.tile_px).variance, FLAT)) + 1e-6
    after = picture.pixels[face.window]
    # Of what the mask left and what is added, the variances make up the whole.
    level = _at_light(after, lacking) * np.sqrt(1 - (1 - face.kept) ** 2)
    return _laid_in(picture, face, level[..., None] * noise)


def take_grain_away(picture: Image, face: GrainyFace) -> Image:
    """The picture with the face smoothed where the repaint left it grainy, as it leaves large ones,
    whose grain is finer than the model sees. Where there was no grain, nothing changes.

    Wiener's filter: fine parts fade where they are no stronger than the grain.

    Args:
        picture: as measured.
        face: where.
    """
    left = face.left()
    levels = _levels(left, np.fmin(face.wanted(), left))
    if not levels.any():
        return picture
    after = picture.pixels[face.window].astype(np.float32)
    fine = after - cv2.GaussianBlur(after, (0, 0), _SMOOTHED_PX)
    strength = cv2.GaussianBlur(np.square(fine @ LUMA), (0, 0), _SMOOTHED_PX)
    grain = np.square(_at_light(picture.pixels[face.window], levels))
    fading = np.clip(_FADING * grain / np.maximum(strength, 1e-6), 0, 1)
    return _laid_in(picture, face, -(face.kept * fading)[..., None] * fine)


def _lacking(wanted: Floats, left: Floats) -> Floats:
    """The variance to add to what is left of it; 0 where the eye would not miss it."""
    weaker = 1 - np.sqrt(left / np.maximum(wanted, 1e-6))
    missed = np.clip((weaker - _ALIKE) / (_WEAKER - _ALIKE), 0, 1)
    lacking: Floats = np.maximum(0, wanted - left) * missed**2
    return lacking


def _levels(variance: Floats, grain: Floats) -> Floats:
    """Standard deviations in levels at each of `NODES`; 0 where grain of that variance is not
    seen, or none is known.
    """
    known = np.isfinite(variance) & np.isfinite(grain)
    if not known.any():
        return np.zeros(len(NODES), np.float32)
    seen = np.clip((np.sqrt(grain[known]) - _SEEN) / (_STRONG - _SEEN), 0, 1)
    return np.interp(NODES, NODES[known], np.sqrt(variance[known]) * seen).astype(np.float32)


def _at_light(pixels: NDArray[np.uint8], levels: Floats) -> Floats:
    """(H, W): what `levels`, given at `NODES`, is at the brightness of each pixel."""
    luma = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (0, 0), _SMOOTHED_PX)
    at_light: Floats = np.interp(np.arange(256), NODES, levels).astype(np.float32)[luma]
    return at_light


def _laid_in(picture: Image, face: GrainyFace, change: Floats) -> Image:
    """Where the masks are 0, byte by byte the same."""
    after = picture.pixels[face.window]
    pixels = picture.pixels.copy()
    pixels[face.window] = np.where(face.kept[..., None] > 0, to_levels(after + change), after)
    return Image(pixels)


def _window(shares: Sequence[Share], around_px: int, image: Image) -> tuple[slice, slice]:
    """The rows and columns of all shares, and so many around them."""

    def span(parts: Sequence[slice], size_px: int) -> slice:
        start = min(part.start for part in parts) - around_px
        return slice(max(0, start), min(size_px, max(part.stop for part in parts) + around_px))

    return (
        span([share.rows for share in shares], image.height_px),
        span([share.columns for share in shares], image.width_px),
    )


def _together(shares: Sequence[Share], window: tuple[slice, slice]) -> Floats:
    """How much of the window is not the original's, in [0, 1]."""
    rows, columns = window
    left = np.ones((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    for share in shares:
        top, side = share.rows.start - rows.start, share.columns.start - columns.start
        height, width = share.values.shape
        left[top : top + height, side : side + width] *= 1 - share.values
    together: Floats = np.clip(1 - left, 0, 1)
    return together


def _noise(had: Tiles, has: Tiles, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """(H, W, 3) grain of variance 1 in luma, of the size and colours that are missing."""
    flat = had.variance <= np.quantile(had.variance, FLAT)
    missing = np.maximum(0, had.power[flat].mean(axis=0) - has.power[flat].mean(axis=0))
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(missing)).real)
    kernel /= max(float(np.sqrt((kernel**2).sum())), 1e-9)
    values = had.residual[flat].reshape(-1, 3)
    sizes, axes = np.linalg.eigh(values.T @ values / len(values))
    colours = (axes * np.sqrt(np.maximum(sizes, 0))) @ axes.T
    colours /= max(float(np.linalg.norm(colours @ LUMA)), 1e-9)
    white = rng.standard_normal((*shape, 3), dtype=np.float32)
    grain: Floats = cv2.filter2D(white, -1, kernel, borderType=cv2.BORDER_REFLECT)
    coloured: Floats = grain @ colours.astype(np.float32)
    return coloured
