"""One call of `FaceDetailer` on its way: which faces, which repaints, how far, how long."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pipeline.config import PassConfig
from pipeline.errors import ModelFailed
from pipeline.progress import OnProgress, Progress, Stage, Step
from pipeline.report import FaceIdentity
from pipeline.request import DetailRequest
from pipeline.stages import OnStep, ShouldStop, check
from pipeline.timing import StageTime, timed
from pipeline.types import FaceBox, FaceCrop, Image, InpaintJob, Repaint, Share, SoftMask

# What noise is drawn for, by number: the passes, and the grain that comes after them.
OUTLINE, DETAIL, GRAIN = 0, 1, 2
# So many pixels take about as long to enlarge as a face's denoising step does, with its share of
# all around it. Measured with `tiny` on a CPU; by their operations much the same with `sdxl`.
STEP_PX: Final = 2**19
# The rest, after all else: the tint, and the file.
END_PX: Final = STEP_PX // 4
PASSES: Final[tuple[Stage, Stage]] = ("outline", "detail")


@dataclass(frozen=True, slots=True, eq=False)
class PassDone:
    """A pass over some faces is over, for those who watch.

    `config`: the profile's own. Per sample: `repaints`, what was laid in, in the faces' order and
    without those that the model gave nothing usable for; `pictures`, with that laid in.
    """

    config: PassConfig
    repaints: tuple[tuple[Repaint, ...], ...]
    pictures: tuple[Image, ...]


OnPass = Callable[[PassDone], None]


@dataclass(frozen=True, slots=True)
class Face:
    """A face that is to be repainted, and its own prompts. `number`: its place among the picture's
    faces, from 1. `strength`: the share of a pass's strength that it takes.
    `spared`: faces beside it that no paint may reach, in image pixels.
    """

    number: int
    box: FaceBox
    prompt: str
    negative_prompt: str
    needs_outline: bool
    strength: float
    spared: tuple[FaceBox, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """A repaint that one pass asks for: a face of one sample, its crop, how much of it is kept, and
    what the model sees of the crop.

    `pass_index`: `OUTLINE` or `DETAIL`.
    """

    pass_index: int
    sample: int
    face: Face
    crop: FaceCrop
    mask: SoftMask
    shown: Image

    def job(self, request: DetailRequest, strength: float, steps: int) -> InpaintJob:
        """The order as the denoise loop takes it."""
        return InpaintJob(
            image=self.shown,
            mask=self.mask,
            prompt=self.face.prompt,
            negative_prompt=self.face.negative_prompt,
            seed=noise_seed(request.recipe.seed + self.sample, self.pass_index),
            steps=steps,
            guidance_scale=request.recipe.guidance_scale,
            strength=strength,
        )


def noise_seed(seed: int, pass_index: int) -> int:
    """What a pass's noise is drawn from, in [0, 2⁶³): each seed's passes have noise of their own.

    Args:
        seed: 0 or more; taken modulo 2⁶³.
        pass_index: `OUTLINE`, `DETAIL` or `GRAIN`.
    """
    # As a spawn key, since appended to the seed's words it would be one more digit of the seed.
    sequence = np.random.SeedSequence(seed % 2**63, spawn_key=(pass_index,))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


@dataclass(slots=True)
class Run:
    """What one call keeps: its request, its clock, its progress; and of which samples' faces the
    model was asked for, and gave, a repaint.

    `shares`: how much of each such face's repaints the picture took. `found`: how many faces count,
    also those that a prompt skips. `total_px`: how many pixels are to be enlarged, of which
    `done_px` are. `identity`: what the gate made of the faces, if there is one.
    """

    request: DetailRequest
    on_progress: OnProgress
    should_stop: ShouldStop
    on_pass: OnPass = lambda _done: None
    found: int = 0
    total_steps: int = 0
    done_steps: int = 0
    total_px: int = 0
    done_px: int = 0
    asked: set[tuple[int, Face]] = field(default_factory=set)
    painted: set[tuple[int, Face]] = field(default_factory=set)
    shares: dict[tuple[int, Face], list[Share]] = field(default_factory=dict)
    identity: list[FaceIdentity] = field(default_factory=list)
    stages: list[StageTime] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Stop here if nobody waits any more; else note when the block began and ended."""
        check(self.should_stop)
        with timed(self.stages, name):
            yield

    def check_painted(self) -> None:
        """Go on, if any repaint that was asked for is there.

        Raises:
            ModelFailed: none is.
        """
        if self.asked and not self.painted:
            raise ModelFailed(
                f"no face got a usable repaint (0 of {len(self.asked)}): the model's values were "
                "not finite, or of a single colour"
            )

    def tell(self, stage: Stage, step: Step | None = None) -> None:
        """Say how far it is."""
        done = STEP_PX * self.done_steps + self.done_px
        share = done / (STEP_PX * self.total_steps + self.total_px + END_PX)
        now = Progress(stage, self.found, step, self.done_steps, self.total_steps, share)
        self.on_progress(now)

    def enlarged(self, pixels: int) -> None:
        """So many pixels more are enlarged.

        Raises:
            Stopped: nobody waits any more.
        """
        self.done_px += pixels
        self.tell("upscaling")
        check(self.should_stop)

    def stepping(self, orders: Sequence[Order], counts: Sequence[int]) -> OnStep:
        """What the denoise loop calls for each step of a pass.

        Args:
            orders: the pass's.
            counts: how many steps each of them takes.
        """
        taken = [0] * len(orders)

        def on_step(index: int) -> None:
            order = orders[index]
            with self.lock:
                taken[index] += 1
                self.done_steps += 1
                step = Step(order.face.number, order.sample + 1, taken[index], counts[index])
                self.tell(PASSES[order.pass_index], step)

        return on_step
