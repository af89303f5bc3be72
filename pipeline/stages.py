"""The roles that models play. Adapters in `pipeline.models` fit them, inheriting nothing."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.errors import Stopped
from pipeline.report import Usage
from pipeline.types import FaceBox, FaceCrop, HardMask, Image, InpaintJob

ShouldStop = Callable[[], bool]
"""Whether nobody waits any more; asked again and again, and from any thread."""
OnStep = Callable[[int], None]


def never() -> bool:
    """Whoever began the work waits for its end."""
    return False


def check(should_stop: ShouldStop) -> None:
    """Go on, if anybody still waits.

    Raises:
        Stopped: nobody does.
    """
    if should_stop():
        raise Stopped("the work was stopped")


class FaceDetector(Protocol):
    """Finds faces in pictures as they are; `pipeline.detection` decides what it gets to see."""

    def detect(
        self, images: Sequence[Image], threshold: float, should_stop: ShouldStop
    ) -> list[list[FaceBox]]:
        """Per picture, in order: the faces that score at least `threshold`, clipped to it, best
        score first, overlaps merged by NMS. Raises `Stopped` soon after `should_stop` says so.
        """


class FaceSegmenter(Protocol):
    """Masks faces."""

    def segment(self, crops: Sequence[FaceCrop], should_stop: ShouldStop) -> list[HardMask | None]:
        """One mask per crop, of the crop's size, in the crops' order: the face's skin area,
        prompted by its box.

        None where the model is unsure; the caller's ellipse (`masks.ellipse`) serves then. Raises
        `Stopped` soon after `should_stop` says so.
        """


class Inpainter(Protocol):
    """Repaints masked pictures."""

    def usage(self) -> Usage:
        """What was done so far, and the device's memory; from any thread, without waiting."""

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is longer than the model reads; usually nothing."""

    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        """One repainted crop per job, in order; None where the model's answer was not finite.

        `on_step` is called once per job and executed step, with the job's index, from any thread.
        Raises `Stopped` soon after `should_stop` answers True.
        """


class Recogniser(Protocol):
    """Tells whether two pictures show one person."""

    def likeness(self, before: FaceCrop, after: FaceCrop) -> float | None:
        """The cosine between what the network makes of the face in two crops of one region, which
        stand it upright: 1 where it sees no difference. None where it sees no face.
        """


OnPixels = Callable[[int], None]
"""Told how many pixels more are enlarged. What it raises ends the work."""


class Upscaler(Protocol):
    """Enlarges pictures."""

    def pixels(self, image: Image, factor: int) -> int:
        """How many pixels are enlarged on the way, those of steps in between included."""

    def upscale(self, image: Image, factor: int, on_pixels: OnPixels = ...) -> Image:
        """The picture, `factor` (2 or 4) times as wide and as high.

        `on_pixels` is called after each tile; all it is told adds up to `pixels(image, factor)`.
        """
