"""The line between the server and one worker process: the messages, and the parent's end of it."""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from server.errors import ServerError
from server.types import Job, Outcome

HEADER = struct.Struct("!Q")
_BUFFER_BYTES = 1 << 20
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a worker.

    `load`: "module:function"; `load(profile_path, device, memory_mode)` gives a
    `server.jobs.Detailer`.
    """

    load: str
    profile_path: Path
    device: str
    memory_mode: str
    concurrency: int
    max_image_pixels: int
    max_side_px: int
    log_level: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """To a worker: nobody waits for this job any more."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: the models are loaded. `seconds`: how long that took."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """From a worker: `done` of `total` steps of a job."""

    job_id: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Answer:
    """From a worker: a job has ended, in this way. Every job it was sent gets one."""

    job_id: str
    answer: Outcome | ServerError


@dataclass(frozen=True, slots=True)
class LogLine:
    """From a worker: the fields of a finished `logging.LogRecord`, for the parent's handlers."""

    fields: Mapping[str, object]


ToWorker = Setup | Job | Cancel
FromWorker = Ready | Progress | Answer | LogLine


def pack(message: ToWorker | FromWorker) -> bytes:
    """One message as bytes: its length in 8 bytes, big-endian, then its pickle."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body


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
    return pickle.loads(body)  # noqa: S301 - from our own parent


class WorkerProcess:
    """The parent's end of one living worker; made by `worker_process`."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._child = child
        self._reader = reader
        self._writer = writer

    @property
    def pid(self) -> int:
        """The process's number, which is its group's too."""
        return self._child.pid

    @property
    def ending(self) -> str:
        """How it ended, in words; to be read after `worker_process` has closed."""
        code = self._child.returncode
        if code is None:
            return "it cannot be killed"
        return f"exit status {code}" if code >= 0 else f"{signal.Signals(-code).name}"

    def send(self, message: ToWorker) -> None:
        """Send without waiting. To a dead worker this does nothing: the end of `messages` tells."""
        self._writer.write(pack(message))

    def kill(self) -> None:
        """End it and whatever it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def messages(self) -> AsyncIterator[FromWorker]:
        """All that it says, until it dies."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                body = await self._reader.readexactly(length)
                yield pickle.loads(body)  # noqa: S301 - from our own child


@contextlib.asynccontextmanager
async def worker_process(setup: Setup, threads: int) -> AsyncIterator[WorkerProcess]:
    """A worker with `threads` CPU threads; after the block it and all it started are dead.

    Raises:
        OSError: the system starts no more processes.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = _start(theirs.fileno(), threads)
        process = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_BUFFER_BYTES)
            process = WorkerProcess(child, reader, writer)
            process.send(setup)
            try:
                yield process
            finally:
                writer.transport.abort()
        finally:
            # Before the wait: until then the number cannot belong to anybody else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await _reap(child)


async def _reap(child: subprocess.Popen[bytes]) -> None:
    """Wait for a killed child, also where this task is cancelled meanwhile."""

    def wait() -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_END_S)

    ended = asyncio.get_running_loop().run_in_executor(None, wait)
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        await ended
        raise


def _start(line: int, threads: int) -> subprocess.Popen[bytes]:
    """A bare interpreter: `multiprocessing` would run the parent's main module again in the child.

    In a session of its own: the terminal's Ctrl-C reaches the parent alone, and one kill reaches
    all that the worker has started.
    """
    environment = {
        # Without it torch takes every core of the machine, also where a container may use two.
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
        [sys.executable, "-m", "server.worker", str(line)],
        stdin=subprocess.DEVNULL,
        pass_fds=[line],
        start_new_session=True,
        env=environment,
    )
