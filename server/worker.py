"""A worker process: loads the models once, then does jobs until the line to its parent closes."""

import contextlib
import importlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from pipeline.errors import ImageTooLarge, InvalidImage, OutOfMemory, Stopped, WeightsError
from server.errors import BadImage, NoMemory, ServerError, TooLarge, WorkFailed
from server.jobs import Detailer, do
from server.link import Answer, Cancel, FromWorker, LogLine, Progress, Ready, Setup, pack, unpack
from server.profiles import with_remedy
from server.types import Job, Outcome

# This module runs as `__main__`.
log = logging.getLogger("server.worker")

LOAD_FAILED = 3
DEVICE_FAILED = 4
LINE_LOST = 5
_PROGRESS_EVERY_S = 0.1
_MORE_ROOM = "FACE_DETAILER_MEMORY_MODE or FACE_DETAILER_WORKER_CONCURRENCY can make room"


class Line:
    """This process's end of the line. `send` may be called from any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._reader = end.makefile("rb")
        self._lock = threading.Lock()

    def receive(self) -> object:
        """The next message; EOFError where the parent is gone."""
        return unpack(self._reader.read)

    def send(self, message: FromWorker) -> None:
        """Send, and wait until the system has taken it. `Inbox` looks after a parent's death."""
        data = pack(message)
        with self._lock, contextlib.suppress(OSError):
            self._end.sendall(data)


class LineHandler(logging.Handler):
    """Hands every record to the parent, whose handlers give it the format of its own."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Send it with text and traceback already made: their parts may not be picklable."""
        try:
            text = logging.Formatter().format(record)
            plain = {k: v for k, v in record.__dict__.items() if isinstance(v, str | int | float)}
            self._line.send(LogLine({**plain, "msg": text, "exc_text": None, "stack_info": None}))
        except Exception:  # noqa: BLE001 - as every handler of `logging` does: a bad record stops no work
            self.handleError(record)


class Worker:
    """Takes jobs from the line, each in a thread of its own, and sends an answer for every one."""

    def __init__(self, line: Line, setup: Setup, detailer: Detailer) -> None:
        self._line = line
        self._setup = setup
        self._detailer = detailer

    def work(self, job: Job, stop: threading.Event) -> None:
        """Do one job and send its answer, whatever happens."""
        answer: Outcome | ServerError
        try:
            answer = do(job, self._setup, self._detailer, self._progress_of(job), stop.is_set)
        except Stopped:
            answer = WorkFailed("stopped")
        except ImageTooLarge as error:
            answer = TooLarge(str(error))
        except InvalidImage as error:
            answer = BadImage(str(error))
        except OutOfMemory as error:
            log.error("Job %s failed on %s: %s. %s", job.id, self._setup.device, error, _MORE_ROOM)
            answer = NoMemory()
        except BaseException as error:
            log.exception("Job %s failed.", job.id)
            # The context is beyond use: every later job would fail in this process.
            if _is_torchs(error, "AcceleratorError"):
                os._exit(DEVICE_FAILED)
            answer = NoMemory() if _is_torchs(error, "OutOfMemoryError") else WorkFailed()
        self._line.send(Answer(job.id, answer))

    def _progress_of(self, job: Job) -> Callable[[int, int], None]:
        due = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal due
            now = time.monotonic()
            if now >= due or done == total:
                due = now + _PROGRESS_EVERY_S
                self._line.send(Progress(job.id, done, total))

        return on_progress


class Inbox:
    """What the parent sends, read by a thread of its own: a death is noticed while loading."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._stops: dict[str, threading.Event] = {}
        self.jobs: queue.SimpleQueue[tuple[Job, threading.Event]] = queue.SimpleQueue()

    def read(self) -> None:
        """Sort messages until the parent is gone; then end this process and all it has started."""
        try:
            while True:
                self._sort(self._line.receive())
        except (EOFError, OSError):
            pass
        except Exception:
            log.exception("The line to the parent cannot be read.")
        # An orderly exit would wait for threads deep in native code, and leave children behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(LINE_LOST)

    def _sort(self, message: object) -> None:
        match message:
            case Job() as job:
                self._stops[job.id] = stop = threading.Event()
                self.jobs.put((job, stop))
            case Cancel(job_id):
                stop = self._stops.get(job_id, threading.Event())
                stop.set()

    def forget(self, job_id: str) -> None:
        """The job has ended: a cancel that comes later finds nothing."""
        del self._stops[job_id]


def _is_torchs(error: BaseException, name: str) -> bool:
    """Whether torch raised it, which not every detailer has loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, getattr(torch, name))


def _load(setup: Setup) -> Detailer:
    module, _, name = setup.load.partition(":")
    loader = getattr(importlib.import_module(module), name)
    return cast("Detailer", loader(setup.profile_path, setup.device, setup.memory_mode))


def main(end: socket.socket) -> None:
    """Serve the parent at the other end of `end`; never returns."""
    # A service manager sends SIGTERM to the family: the parent lets running jobs finish first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(end.fileno(), False)
    line = Line(end)
    setup = cast("Setup", line.receive())
    logging.basicConfig(level=setup.log_level, handlers=[LineHandler(line)])
    logging.captureWarnings(capture=True)
    inbox = Inbox(line)
    threading.Thread(target=inbox.read, name="inbox", daemon=True).start()
    started = time.monotonic()
    try:
        detailer = _load(setup)
    except WeightsError as error:
        told = with_remedy(error, setup.profile_path.name)
        log.error("Loading on %s failed: %s", setup.device, told)
        os._exit(LOAD_FAILED)
    except BaseException:
        log.exception("Loading on %s failed.", setup.device)
        os._exit(LOAD_FAILED)
    worker = Worker(line, setup, detailer)

    def serve(job: Job, stop: threading.Event) -> None:
        try:
            worker.work(job, stop)
        finally:
            inbox.forget(job.id)

    with ThreadPoolExecutor(setup.concurrency, thread_name_prefix="job") as pool:
        line.send(Ready(time.monotonic() - started))
        while True:
            pool.submit(serve, *inbox.jobs.get())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
