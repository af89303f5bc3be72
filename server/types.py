"""What the server's parts hand to each other: small and picklable, for the worker processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from pipeline.request import FaceOrder, Passes
from pipeline.types import FaceBox, Find

ImageFormat = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True, slots=True)
class DetailOptions:
    """The parameters of one call, coerced and in range; names and ranges are the wire contract's.

    `seed` is final here: −1 was replaced by the drawn one. `upscale` is what the sender asked for;
    the cap by the server's size limit is applied where the picture's size is known
    (`server.contract`).
    """

    prompt: str
    denoise: float
    negative_prompt: str
    samples: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    image_format: ImageFormat
    image_quality: int
    upscale: int
    passes: Passes
    keep_healthy: bool
    max_faces: int
    min_face_px: float
    face_order: FaceOrder
    detection_threshold: float | None


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """The parameters of a call that only looks for faces. `overlay`: whether to draw them."""

    max_faces: int
    min_face_px: float
    face_order: FaceOrder
    detection_threshold: float | None
    overlay: bool
    image_format: ImageFormat
    image_quality: int


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted call. `id`: 32 lower-case hex digits. `picture`: a file's bytes, readable.
    `options`: their kind says what is to be done.
    """

    id: str
    picture: bytes
    options: DetailOptions | DetectOptions


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job. Sizes are the output's. `seconds`: wall time per stage.

    `pictures`: one encoded file per sample; of a job that looks for faces the overlay, if asked
    for. `finds`: what such a job found. `kept`: how many faces, over all samples, keep their old
    pixels because the model gave nothing usable.
    """

    pictures: tuple[bytes, ...]
    width_px: int
    height_px: int
    faces: tuple[FaceBox, ...] = ()
    kept: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    finds: tuple[Find, ...] = ()


class EngineState(StrEnum):
    """Whether work can be done now."""

    STARTING = "starting"
    READY = "ready"
    DEAD = "dead"


class Engine(Protocol):
    """Does the work, wherever it runs."""

    @property
    def state(self) -> EngineState:
        """READY as soon as one worker can serve."""

    async def start(self) -> None:
        """Begin to start the workers; returns at once."""

    async def stop(self) -> None:
        """Answer what is running within the grace period, then end every worker."""

    async def detail(self, job: Job) -> Outcome:
        """Do one job. Cancelling the awaiting task cancels the job.

        Raises:
            Busy: the queue is full.
            Starting: no worker was ready yet.
            NoWorker: every worker is dead.
            TimedOut: the deadline passed.
            WorkFailed: the work raised, or its worker died twice over it.
        """
