"""The four roles that models play. Adapters in `pipeline.models` fit them, inheriting nothing."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.types import FaceBox, FaceCrop, HardMask, Image, InpaintJob

ShouldStop = Callable[[], bool]
OnStep = Callable[[], None]


class FaceDetector(Protocol):
    """Finds faces in pictures as they are; `pipeline.detection` decides what it gets to see."""

    def detect(self, images: Sequence[Image], threshold: float) -> list[list[FaceBox]]:
        """Per picture, in order: the faces that score at least `threshold`, clipped to it, best
        score first, overlaps merged by NMS.
        """


class FaceSegmenter(Protocol):
    """Masks faces."""

    def segment(self, crops: Sequence[FaceCrop]) -> list[HardMask | None]:
        """One mask per crop, of the crop's size, in the crops' order: the face's skin area,
        prompted by its box.

        None where the model is unsure; the caller's ellipse (`masks.ellipse`) serves then.
        """


class Inpainter(Protocol):
    """Repaints masked pictures."""

    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        """One repainted crop per job, in order; None where the model's answer was not finite.

        `on_step` is called once per job and executed step, from any thread. Raises `Stopped` soon
        after `should_stop` answers True.
        """


class Upscaler(Protocol):
    """Enlarges pictures."""

    def upscale(self, image: Image, factor: int) -> Image:
        """The picture, `factor` (2 or 4) times as wide and as high."""
