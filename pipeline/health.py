"""How well a face is: whether its outline must be rebuilt first, how much may change at all, and
whether what the model gave back can be a face.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.thin import lifted_off
from pipeline.types import FaceBox, Image, SoftMask

# Below this many pixels on its shorter side, no face holds the shape of an eye.
BAD_SIDE_PX = 40.0
# At this size faces are compared, so that the measure does not depend on the picture's resolution.
MEASURE_PX = 160
# Set on 153 portraits, faces of 120 to 250 px, clean and shrunk by 4 and 6, with and without noise
# of 8 levels and JPEG 50. On the wrong side are 3 % of the clean faces and 4 % of those shrunk by
# 4, none of those by 6; of faces shrunk by 2 it calls 28 % bad. Of sizes 48 to 192, 160 px told
# them apart best.
BAD_SHARPNESS = 0.04
# In blocks of this side, the 30 % that lose least tell the noise, and four in five blocks lose less
# than what counts as detail. White noise alone differs from block to block by so much.
_BLOCK_PX = 10
_NOISE_BLOCKS, _DETAIL_BLOCKS = 0.3, 0.8
_NOISE_SPREAD = 1.3
# Below this without what is thin and stands out, a face is soft, and that lay over it. Of 76 of the
# same portraits it calls none bad that was clean, noisy or shrunk by 2 to 4, and was not before; of
# those shrunk by 6 it finds bad 97 % under a line, 84 % under a word, 68 % under a watermark of a
# line in 48 px and 59 % under 1 % of white and black dots, where before there were 96, 47, 0 and 0.
SOFT_BELOW = 0.03
_THIN_PX = 5
_THIN_LEVELS = 18.0
# From here on a face counts as sharp: two thirds of those faces do, clean; of those shrunk by 2,
# 22 %, of those shrunk by 3, 1 %.
GOOD_SHARPNESS = 0.072
# From this shorter side on a face counts as large. It has as many pixels as the tiny profile works
# on, and enough to show an expression that a repaint could lose.
GOOD_SIDE_PX = 256.0
# How much of the strength a large and sharp face takes.
HEALTHY_STRENGTH = 0.5
# A face repainted well or badly keeps most of its contrast: on the example, clean and damaged, at
# strengths 0.01 to 1, 0.8 to 1.3 of it. A decoder that lost its latents gives one colour.
_LEAST_SHARE = 0.1
_LEAST_LEVELS = 1.0


def sharpness(image: Image, box: FaceBox) -> float:
    """The share of a face's contrast that halving its resolution loses where the face has detail, 0
    to about 0.5; noise is none.

    The face is measured at `MEASURE_PX` a side, whatever its shape, in blocks: the mean square of
    what a halved and enlarged copy lacks. What grain and JPEG add, they add to every block, so the
    blocks that lose least tell how much that is; a scratch lies in a few blocks, and those do not
    count. What the others lose beyond the noise is taken over the face's contrast. Of a face that
    is soft below what lies over it, text or lines or dots, that counts.

    Args:
        image: the picture.
        box: the face, at least partly in the picture.
    """
    x0, y0 = max(0, int(box.x0)), max(0, int(box.y0))
    face = image.pixels[y0 : max(y0 + 1, round(box.y1)), x0 : max(x0 + 1, round(box.x1))]
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (MEASURE_PX, MEASURE_PX)
    shrinks = min(grey.shape) > MEASURE_PX
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    levels = grey.clip(0, 255).astype(np.uint8)
    below = _detail(lifted_off(levels, _THIN_PX, _THIN_LEVELS).astype(np.float32))
    return below if below < SOFT_BELOW else _detail(grey)


def _detail(grey: NDArray[np.float32]) -> float:
    """See `sharpness`; of levels, `MEASURE_PX` a side."""
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    lost = grey - cv2.resize(half, grey.shape, interpolation=cv2.INTER_CUBIC)
    side = MEASURE_PX // _BLOCK_PX
    blocks = np.square(lost).reshape(side, _BLOCK_PX, side, _BLOCK_PX).mean(axis=(1, 3))
    noise = _NOISE_SPREAD * float(np.quantile(blocks, _NOISE_BLOCKS))
    detail = float(np.quantile(blocks, _DETAIL_BLOCKS)) - noise
    contrast = max(float(grey.var()) - noise, 1e-3)
    return float(min(1.0, np.sqrt(max(0.0, detail) / contrast)))


def is_badly_damaged(image: Image, box: FaceBox) -> bool:
    """Whether a face is too small or too blurred to show its own outline."""
    if min(box.width_px, box.height_px) < BAD_SIDE_PX:
        return True
    return sharpness(image, box) < BAD_SHARPNESS


def strength_share(image: Image, box: FaceBox) -> float:
    """How much of a pass's strength suits a face: 1 for one that is small or damaged, falling to
    `HEALTHY_STRENGTH` for one that is large and sharp, whose identity and expression must stay.

    Args:
        image: the picture.
        box: the face, at least partly in the picture.
    """
    side_px = min(box.width_px, box.height_px)
    large = (side_px - BAD_SIDE_PX) / (GOOD_SIDE_PX - BAD_SIDE_PX)
    if large <= 0:
        return 1.0
    sharp = (sharpness(image, box) - BAD_SHARPNESS) / (GOOD_SHARPNESS - BAD_SHARPNESS)
    healthy = min(1.0, large) * min(1.0, max(0.0, sharp))
    return 1 - (1 - HEALTHY_STRENGTH) * healthy


def is_blank(painted: Image, original: Image, mask: SoftMask) -> bool:
    """Whether the repainted face is one colour, or as good as.

    Compared is the contrast: the standard deviation of the levels where the mask keeps them, of the
    channel that has most. Blank is what has under a tenth of the original's, or under one level;
    nothing is, where the original itself has less than that to lose.

    Args:
        painted: the crop as the model gave it back, before any colour is matched.
        original: the crop as it was cut, of the same size.
        mask: what of `painted` is kept, of the same size.
    """
    contrast = _contrast(original, mask)
    if contrast < _LEAST_LEVELS:
        return False
    return _contrast(painted, mask) < max(_LEAST_LEVELS, _LEAST_SHARE * contrast)


def _contrast(image: Image, mask: SoftMask) -> float:
    """Levels, 0 to 127.5."""
    kept = mask.pixels > 0
    levels, weights = image.pixels[kept].astype(np.float64), mask.pixels[kept]
    spread = levels - np.average(levels, axis=0, weights=weights)
    return float(np.sqrt(np.average(spread**2, axis=0, weights=weights)).max())
