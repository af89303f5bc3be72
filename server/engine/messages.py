"""What the server and a worker process say to each other, and its form on the socket."""

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.progress import Progress
from pipeline.report import Usage
from server.errors import ServerError
from server.types import Job, Outcome

HEADER = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a worker.

    `load`: "module:function"; `load(profile_path, device, memory_mode, compile_mode, identity)`
    gives a `server.engine.work.Detailer`. `compiled`: folder for what torch compiles.
    """

    load: str
    profile_path: Path
    device: str
    memory_mode: str
    compile_mode: str
    identity: str | float
    compiled: Path
    concurrency: int
    max_image_pixels: int
    max_side_px: int
    keep_exif: bool
    log_level: int
    vitals_every_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """To a worker: nobody waits for this job any more."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: the models are loaded. `seconds`: how long that took."""

    seconds: float


@dataclass(frozen=True, slots=True)
class JobProgress:
    """From a worker: how far a job is."""

    job_id: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Vitals:
    """From a worker, every few seconds and with each answer: what it has done since its start,
    and the memory that it takes. `resident_bytes`: of its process.
    """

    usage: Usage
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """From a worker: a job has ended, in this way. Every job it was sent gets one."""

    job_id: str
    answer: Outcome | ServerError
    vitals: Vitals | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """From a worker: the fields of a finished `logging.LogRecord`, for the parent's handlers."""

    fields: Mapping[str, object]


ToWorker = Setup | Job | Cancel
FromWorker = Ready | JobProgress | Answer | LogLine | Vitals


def pack(message: ToWorker | FromWorker) -> tuple[bytes, bytes]:
    """One message: the length of its pickle in 8 bytes, big-endian, and the pickle.

    In two pieces, because putting them together would copy a hundred megabytes once more.
    """
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)), body


def unpack(read: Callable[[int], bytes]) -> object:
    """The next message of a blocking reader.

    Raises:
        EOFError: the other end is gone.
    """
    header = read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    (length,) = HEADER.unpack(header)
    body = read(length)
    if len(body) < length:
        raise EOFError
    return pickle.loads(body)  # noqa: S301 - both ends are our own processes
