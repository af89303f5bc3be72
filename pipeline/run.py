"""One call of `FaceDetailer` on its way: which faces, which repaints, how far, how long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.config import PassConfig
from pipeline.errors import Stopped
from pipeline.request import DetailRequest
from pipeline.stages import ShouldStop
from pipeline.types import FaceBox, FaceCrop, Image, InpaintJob, Repaint, SoftMask

OnProgress = Callable[[int, int], None]


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
    """A face that is to be repainted, and its own prompts. `strength`: the share of a pass's
    strength that it takes.
    """

    box: FaceBox
    prompt: str
    negative_prompt: str
    needs_outline: bool
    strength: float


@dataclass(frozen=True, slots=True)
class Order:
    """A repaint that one pass asks for: a face of one sample, its crop, how much of it is kept."""

    sample: int
    face: Face
    crop: FaceCrop
    mask: SoftMask

    def job(self, request: DetailRequest, strength: float, steps: int) -> InpaintJob:
        """The order as the denoise loop takes it."""
        return InpaintJob(
            image=self.crop.image,
            mask=self.mask,
            prompt=self.face.prompt,
            negative_prompt=self.face.negative_prompt,
            seed=(request.seed + self.sample) % 2**63,
            steps=steps,
            guidance_scale=request.guidance_scale,
            strength=strength,
        )


@dataclass(slots=True)
class Run:
    """What one call keeps: its request, its clock, its progress; and of which samples' faces the
    model was asked for, and gave, a repaint.
    """

    request: DetailRequest
    on_progress: OnProgress
    should_stop: ShouldStop
    on_pass: OnPass = lambda _done: None
    total_steps: int = 0
    done_steps: int = 0
    asked: set[tuple[int, Face]] = field(default_factory=set)
    painted: set[tuple[int, Face]] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Stop here if nobody waits any more; else add the block's wall time to the stage's."""
        if self.should_stop():
            raise Stopped("the work was stopped")
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def step(self) -> None:
        """One more denoising step of one face is done."""
        with self.lock:
            self.done_steps += 1
            self.on_progress(min(self.done_steps, self.total_steps), self.total_steps)
