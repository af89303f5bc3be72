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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from pipeline.errors import (
    ImageTooLarge,
    InvalidImage,
    InvalidProfile,
    ModelFailed,
    OutOfMemory,
    Stopped,
    WeightsError,
)
from server.engine.line import Line
from server.engine.messages import Answer, Cancel, Ready, Setup, Vitals
from server.engine.plan import explain
from server.engine.work import Detailer, do
from server.errors import BadImage, NoMemory, ServerError, TooLarge, WorkFailed
from server.types import Job, Outcome
from weights.manifest import profile_at

# This module runs as `__main__`.
log = logging.getLogger("server.engine.worker")

LOAD_FAILED = 3
DEVICE_FAILED = 4
LINE_LOST = 5
# How long a process that must end waits for its last words, and for its neighbours' answers.
_LAST_WORDS_S = 10.0
_MORE_ROOM = "FACE_DETAILER_MEMORY_MODE or FACE_DETAILER_WORKER_CONCURRENCY can make room"


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
            with self._line.watching(job.id) as on_progress:
                answer = do(job, self._setup, self._detailer, on_progress, stop.is_set)
        except Stopped:
            answer = WorkFailed("stopped")
        except ImageTooLarge as error:
            answer = TooLarge(str(error))
        except InvalidImage as error:
            answer = BadImage(str(error))
        except OutOfMemory as error:
            log.error("Job %s failed on %s: %s. %s", job.id, self._setup.device, error, _MORE_ROOM)
            answer = NoMemory()
        except ModelFailed as error:
            log.error("Job %s failed on %s: %s.", job.id, self._setup.device, error)
            answer = WorkFailed()
        except BaseException as error:
            log.exception("Job %s failed.", job.id)
            # The context is beyond use: every later job would fail in this process.
            if _is_torchs(error, "AcceleratorError"):
                self._line.flush(_LAST_WORDS_S)
                os._exit(DEVICE_FAILED)
            answer = NoMemory() if _is_torchs(error, "OutOfMemoryError") else WorkFailed()
        self._line.send(Answer(job.id, answer, self._vitals()))

    def tell_vitals(self) -> None:
        """Say every few seconds, for ever, what the models have done and the memory they take."""
        while True:
            time.sleep(self._setup.vitals_every_s)
            if (vitals := self._vitals()) is not None:
                self._line.send(vitals)

    def _vitals(self) -> Vitals | None:
        """None where the device is lost, which is for its jobs to say."""
        try:
            return Vitals(self._detailer.usage(), _resident_bytes())
        except Exception as error:  # noqa: BLE001
            log.debug("Nothing can be said of %s: %s", self._setup.device, error)
            return None


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
            self._line.flush(_LAST_WORDS_S)
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


def _resident_bytes() -> int:
    """Of this process; 0 where the system does not say (macOS)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _is_torchs(error: BaseException, name: str) -> bool:
    """Whether torch raised it, which not every detailer has loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, getattr(torch, name))


def _load(setup: Setup) -> Detailer:
    # Read by torch when it is imported.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(setup.compiled))
    module, _, name = setup.load.partition(":")
    loader = getattr(importlib.import_module(module), name)
    how = setup.memory_mode, setup.compile_mode, setup.identity
    detailer = loader(setup.profile_path, setup.device, *how)
    return cast("Detailer", detailer)


def _load_or_end(setup: Setup, line: Line) -> Detailer:
    """The models. Where they cannot be loaded the log says why, and this process ends."""
    try:
        return _load(setup)
    except (InvalidProfile, WeightsError) as error:
        why = explain(error, profile_at(setup.profile_path))
        log.error("Loading on %s failed: %s", setup.device, why)
    except BaseException:
        log.exception("Loading on %s failed.", setup.device)
    line.flush(_LAST_WORDS_S)
    os._exit(LOAD_FAILED)


def main(end: socket.socket) -> None:
    """Serve the parent at the other end of `end`; never returns."""
    # A service manager sends SIGTERM to the family: the parent lets running jobs finish first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(end.fileno(), False)
    line = Line(end)
    setup = cast("Setup", line.receive())
    logging.basicConfig(level=setup.log_level, handlers=[line.log_handler()])
    logging.captureWarnings(capture=True)
    inbox = Inbox(line)
    threading.Thread(target=inbox.read, name="inbox", daemon=True).start()
    started = time.monotonic()
    detailer = _load_or_end(setup, line)
    worker = Worker(line, setup, detailer)

    def serve(job: Job, stop: threading.Event) -> None:
        try:
            worker.work(job, stop)
        finally:
            inbox.forget(job.id)

    with ThreadPoolExecutor(setup.concurrency, thread_name_prefix="job") as pool:
        line.send(Ready(time.monotonic() - started))
        threading.Thread(target=worker.tell_vitals, name="vitals", daemon=True).start()
        while True:
            pool.submit(serve, *inbox.jobs.get())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
