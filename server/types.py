"""What the server's parts hand to each other: small and picklable, for the worker processes."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from pipeline.progress import OnProgress
from pipeline.report import Report
from pipeline.request import Recipe, Selection
from pipeline.timing import StageTime, seconds_of
from pipeline.types import Detection, FaceBox

ImageFormat = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are written. `image_quality`: 10–100, of JPEG and WebP."""

    image_format: ImageFormat
    image_quality: int


@dataclass(frozen=True, slots=True)
class DetailOptions:
    """The parameters of one call, coerced and in range.

    `recipe.seed` is final here: −1 was replaced by the drawn one. `recipe.upscale` is what the
    sender asked for; the cap by the server's size limit is applied where the picture's size is
    known (`server.api.parameters.fit`).
    """

    recipe: Recipe
    selection: Selection
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """The parameters of a call that only looks for faces. `overlay`: whether to draw them."""

    selection: Selection
    encoding: Encoding
    overlay: bool


JobKind = Literal["detail", "detect"]


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted call. `id`: 32 lower-case hex digits. `picture`: a file's bytes, readable.
    `options`: their kind says what is to be done. `account_id`: whose it is; accounts take turns.
    """

    id: str
    picture: bytes = field(repr=False)
    options: DetailOptions | DetectOptions
    account_id: int = 0

    @property
    def kind(self) -> JobKind:
        """Which share of the workers does it."""
        return "detect" if isinstance(self.options, DetectOptions) else "detail"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job. Sizes are the output's. `stages`: when each began and
    ended, the wait for a worker before them.

    `pictures`: one encoded file per sample; of a job that looks for faces the overlay, if asked
    for. `detections`: what such a job found. `report`: what became of the faces of any other.
    """

    pictures: tuple[bytes, ...] = field(repr=False)
    width_px: int
    height_px: int
    faces: tuple[FaceBox, ...] = ()
    report: Report = field(default_factory=Report)
    stages: tuple[StageTime, ...] = ()
    detections: tuple[Detection, ...] = ()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time per stage."""
        return seconds_of(self.stages)


class JobState(StrEnum):
    """How far a stored job is, in the words of the wire."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self in (JobState.QUEUED, JobState.PROCESSING)


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to be stored. `id`: 32 lower-case hex digits. `key_id`: of the key it came
    with. `request`: JSON, what its server needs to do it. `fingerprint`: what tells
    requests with one `idempotency_key` apart. `webhook_url`: whom to tell of its end.
    """

    id: str
    account_id: int
    key_id: int
    request: str
    idempotency_key: str | None = None
    fingerprint: str | None = None
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A stored request as it stands. Times are Unix milliseconds. `attempts`: how often it was
    begun, and not put back. `cancelled`: whether its sender asked to stop it. `error` and
    `error_status` of a FAILED one are for its sender, the latter as v1 would answer; `result` of a
    COMPLETED one is JSON. `webhook_url`: whom to tell of its end; `webhook_tries`: how often that
    has failed.
    """

    id: str
    account_id: int
    key_id: int
    state: JobState
    request: str
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    attempts: int
    cancelled: bool
    error: str | None
    error_status: int | None
    result: str | None
    webhook_url: str | None
    webhook_tries: int


class EngineState(StrEnum):
    """Whether work can be done now."""

    STARTING = "starting"
    READY = "ready"
    DEAD = "dead"


class WorkerState(StrEnum):
    """What a worker is at, as operators see it."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DEAD = "dead"


class Place(Protocol):
    """A place in an engine for one job, which may still be on its way."""

    async def run(self, job: Job, on_progress: OnProgress | None = None) -> Outcome:
        """Do the job, once per place. Cancelling the awaiting task cancels the job.

        Raises:
            NoWorker: every worker is dead, or the server stops.
            TimedOut: the deadline, which counts from this call, passed.
            BadImage, TooLarge: the picture's pixels cannot be read.
            WorkFailed: the work raised, or its worker died over it, twice.
        """


class Engine(Protocol):
    """Does the work, wherever it runs.

    Whoever has a job reserves a place first, so that an overloaded server refuses before it reads,
    fetches or decodes anything.
    """

    @property
    def capacity(self) -> int:
        """How many jobs are done at a time, on all devices; 0 while that is not known."""

    @property
    def state(self) -> EngineState:
        """READY as soon as one worker can serve."""

    async def start(self) -> None:
        """Begin to start the workers; returns at once."""

    async def stop(self) -> None:
        """Accept nothing more, answer what is running within the grace period, then end every
        worker. May be called again, and be cancelled, which cuts the grace period short.
        """

    def reserve(
        self, account_id: int | None = None, kind: JobKind = "detail"
    ) -> AbstractContextManager[Place]:
        """A place, kept until the block is left. Never waits.

        Args:
            account_id: whose job is to come; None: that is not known yet.
            kind: of the job. Each kind has a queue of its own.

        Raises:
            Busy: on entry; the queue is full, or the account's part of it, places without a job yet
                included.
            Starting: on entry; no worker was ready yet.
            NoWorker: on entry; every worker is dead, or the server stops.
        """
