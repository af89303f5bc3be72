"""Calls on the shipped example, a mask for it, and what to compare of their results."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from detail_requests import asking
from repainters import rebuilt

from pipeline.config_inpainter import InpainterConfig
from pipeline.detailer import FaceDetailer
from pipeline.models.sdxl.inpainter import SdxlInpainter
from pipeline.request import DetailRequest
from pipeline.stages import Inpainter, OnStep, ShouldStop
from pipeline.types import FaceBox, Image, InpaintJob, SoftMask

EXAMPLES = Path(__file__).parents[2] / "examples"
FACE = FaceBox(177, 68, 269, 158, 0.9)
# Not faces, but the walk takes a caller's word for it. The second overlaps the first.
ELSEWHERE, OVERLAPPING = FaceBox(40, 300, 110, 380, 0.5), FaceBox(225, 100, 320, 190, 0.4)
STEPS = 2


def read(name: str) -> Image:
    pixels = cv2.cvtColor(cv2.imread(str(EXAMPLES / name)), cv2.COLOR_BGR2RGB)
    pixels.flags.writeable = False
    return Image(pixels)


SOUND, DAMAGED = read("astronaut.png"), read("astronaut-damaged.jpg")


def softened(image: Image) -> Image:
    """Shrunk to a quarter and enlarged again: damaged, and without grain."""
    small = cv2.resize(image.pixels, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA)
    size = (image.width_px, image.height_px)
    large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    return Image(np.ascontiguousarray(large, np.uint8))


def request(image: Image = DAMAGED, **changes) -> DetailRequest:
    values = {"prompt": "detailed face", "denoise": 0.5, "num_inference_steps": STEPS}
    return asking(image, **{**values, **changes})


def plain(height_px: int, width_px: int) -> Image:
    """A smooth gradient: a picture without a face."""
    y, x = np.mgrid[:height_px, :width_px]
    return Image((np.dstack([x, y, x + y]) * 200 / (x + y + 1).max()).astype(np.uint8))


def same(a: Image, b: Image) -> bool:
    return np.array_equal(a.pixels, b.pixels)


def levels_apart(a: Image, b: Image) -> int:
    return int(np.abs(a.pixels.astype(int) - b.pixels).max())


def inside(box: FaceBox, image: Image) -> np.ndarray:
    return image.pixels[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)]


class Recorder:
    """Passes jobs on to a real inpainter and remembers them; `route` picks one for each batch."""

    def __init__(self, route: Callable[[int], Inpainter]) -> None:
        self._route = route
        self.batches: list[Sequence[InpaintJob]] = []

    def unread(self, prompt: str) -> str:
        return self._route(len(self.batches)).unread(prompt)

    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        self.batches.append(jobs)
        return self._route(len(self.batches)).inpaint(jobs, on_step, should_stop)


def recorded(detailer: FaceDetailer) -> tuple[FaceDetailer, Recorder]:
    recorder = Recorder(lambda _batch: detailer._inpainter)
    return rebuilt(detailer, recorder), recorder


def configured(tiny: SdxlInpainter, config: InpainterConfig) -> SdxlInpainter:
    return SdxlInpainter(tiny._unet, tiny._vae, tiny._text, tiny._noise_model, config)


def disc_mask(side: int = 256, radius: float = 0.35) -> SoftMask:
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    ramp = np.clip((radius - np.hypot(x, y)) * 20, 0, 1)
    return SoftMask(ramp.astype(np.float32))
