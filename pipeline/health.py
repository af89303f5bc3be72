"""How well a face is: whether its outline must be rebuilt first, and how much may change at all."""

import cv2
import numpy as np

from pipeline.types import FaceBox, Image

# Below this many pixels on its shorter side, no face holds the shape of an eye.
BAD_SIDE_PX = 40.0
# At this size faces are compared, so that the measure does not depend on the picture's resolution.
MEASURE_PX = 160
# Set on the 151 labelled faces of `weights.training.common`'s held-out portraits (shorter sides 68
# to 336 px, half of them 125 to 202), clean and shrunk by 4 and 6 with `weights.training.damage`,
# with and without its blur, noise and JPEG. On the wrong side are 3 % of the clean faces and 7 % of
# the damaged ones (14 % at 4, 1 % at 6); of faces shrunk by 2 it calls 42 % bad. Of sizes 48 to
# 192, 160 px told them apart best.
BAD_SHARPNESS = 0.034
# From here on a face counts as sharp: the median of 150 of those faces, clean. A quarter of those
# shrunk by 2 get there, and 2 % of those shrunk by 3 to 4.
GOOD_SHARPNESS = 0.065
# From this shorter side on a face counts as large. It has as many pixels as the tiny profile works
# on, and enough to show an expression that a repaint could lose.
GOOD_SIDE_PX = 256.0
# How much of the strength a large and sharp face takes.
HEALTHY_STRENGTH = 0.5


def sharpness(image: Image, box: FaceBox) -> float:
    """The share of a face's contrast that halving its resolution loses, 0 to about 0.5.

    The face is measured at `MEASURE_PX` a side, whatever its shape: the standard deviation of what
    a halved and enlarged copy lacks, over that of the face.

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
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    lost = grey - cv2.resize(half, size, interpolation=cv2.INTER_CUBIC)
    return float(lost.std() / max(float(grey.std()), 1e-3))


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
