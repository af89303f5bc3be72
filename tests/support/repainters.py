"""A detailer with another inpainter, and inpainters that do to a crop what a test says."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.config import Profile
from pipeline.detailer import FaceDetailer
from pipeline.identity import IdentityGate
from pipeline.stages import Inpainter, OnStep, ShouldStop
from pipeline.types import Image, InpaintJob

Pixels = np.ndarray

SHARPENED_PX = 3.0


def rebuilt(
    detailer: FaceDetailer,
    inpainter: Inpainter,
    profile: Profile | None = None,
    gate: IdentityGate | None = None,
) -> FaceDetailer:
    """A detailer of the same networks but one; with a gate, if there is to be one."""
    return FaceDetailer(
        profile or detailer.profile,
        detector=detailer._detector,
        segmenter=detailer._passes._segmenter,
        inpainter=inpainter,
        upscaler=detailer._upscaler,
        gate=gate,
    )


class Repainter:
    """Gives every crop back as `paint` makes it of the crop's levels, (S, S, 3) float in [0, 1]."""

    def __init__(self, paint: Callable[[Pixels], Pixels]) -> None:
        self._paint = paint

    def unread(self, _prompt: str) -> str:
        return ""

    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, _should_stop: ShouldStop
    ) -> list[Image | None]:
        answers: list[Image | None] = []
        for index, job in enumerate(jobs):
            for _ in range(job.steps):
                on_step(index)
            levels = self._paint(job.image.pixels.astype(np.float32) / 255) * 255
            answers.append(Image(np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8)))
        return answers


def same(levels: Pixels) -> Pixels:
    return levels


def negative(levels: Pixels) -> Pixels:
    return 1 - levels


def sharper(levels: Pixels) -> Pixels:
    return 2 * levels - cv2.GaussianBlur(levels, (0, 0), SHARPENED_PX)


def brighter(levels: Pixels) -> Pixels:
    return levels * 1.1


def darker(levels: Pixels) -> Pixels:
    return levels * 0.9


def hue_turned(degrees: float) -> Callable[[Pixels], Pixels]:
    def paint(levels: Pixels) -> Pixels:
        hsv = cv2.cvtColor(levels, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + degrees) % 360
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    return paint
