"""How far a picture is on its walk, for those who watch it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["detecting", "found", "outline", "detail", "upscaling"]


@dataclass(frozen=True, slots=True)
class Step:
    """A denoising step that was taken: of which face, in which sample's picture.

    `face`: its place among those that count, from 1, also where a prompt skips some. `sample`: from
    1. `number`: of the `count` steps that the face takes in this pass, from 1.
    """

    face: int
    sample: int
    number: int
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one picture is.

    `stage`: what is at work; "found" is said once, when the faces are known. `faces`: how many
    count, 0 before that. `step`: the latest one, of "outline" and "detail" alone; the faces of a
    pass advance together. `done` of `total`: denoising steps over all passes, faces and samples;
    0 of 0 before the faces are known. `total` grows where the identity gate repaints once more.
    `share`: of all work that is done, steps and enlargement, in [0, 1): the result is still to be
    written. 0 before the faces are known; less where `total` grows.
    """

    stage: Stage
    faces: int = 0
    step: Step | None = None
    done: int = 0
    total: int = 0
    share: float = 0.0


OnProgress = Callable[[Progress], None]
"""Called from any thread, and for each step by the one that drives the UNet: it must not wait."""


def ignore(_progress: Progress) -> None:
    """For those who do not watch."""
