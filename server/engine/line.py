"""A worker's end of the socket: one thread sends everything, so that nobody else waits for it."""

import contextlib
import logging
import logging.handlers
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator

from pipeline.progress import OnProgress, Progress
from server.engine.messages import FromWorker, JobProgress, LogLine, pack, unpack

# What the sender takes: a packed message, a record of the log, or a mark that `flush` waits for.
Item = tuple[bytes, bytes] | logging.LogRecord | threading.Event

_PROGRESS_EVERY_S = 0.1


class Watch:
    """How far a job is. Called for every step, by the thread that drives the UNet.

    A call only appends to a list: that thread must not wait for a reader.
    """

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._unsent: deque[Progress] = deque()

    def __call__(self, progress: Progress) -> None:
        """It is here now."""
        self._unsent.append(progress)

    def news(self) -> list[JobProgress]:
        """What was not handed out yet: each stage's latest. For one thread at a time."""
        fresh: list[Progress] = []
        for _ in range(len(self._unsent)):
            progress = self._unsent.popleft()
            if fresh and fresh[-1].stage == progress.stage:
                fresh.pop()
            fresh.append(progress)
        return [JobProgress(self._job_id, progress) for progress in fresh]


class Line:
    """This process's end of the line. Everything but `receive` may be called from any thread.

    Messages wait for the sender in a queue without a bound: a full one would have to make a job
    wait, or drop what it says. It stays short all the same. At most `Setup.concurrency` answers
    can be in it, since the parent sends no job before it has read an answer; and a parent that
    reads nothing any more is dead, which `server.engine.worker.Inbox` notices.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._reader = end.makefile("rb")
        self._outgoing: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._watches: dict[str, Watch] = {}
        self._watching = threading.Lock()
        threading.Thread(target=self._send_all, name="sender", daemon=True).start()

    def receive(self) -> object:
        """The next message; EOFError where the parent is gone."""
        return unpack(self._reader.read)

    def send(self, message: FromWorker) -> None:
        """Send soon, in the order of the calls."""
        self._outgoing.put(pack(message))

    def log_handler(self) -> logging.Handler:
        """Hands every record to the parent, whose handlers give it the format of its own."""
        handler = logging.handlers.QueueHandler(self._outgoing)
        # The message and its traceback alone; without this `basicConfig` adds level and name.
        handler.setFormatter(logging.Formatter())
        return handler

    @contextlib.contextmanager
    def watching(self, job_id: str) -> Iterator[OnProgress]:
        """A callback; how far it was called is sent now and then, and when the block is left."""
        watch = Watch(job_id)
        with self._watching:
            self._watches[job_id] = watch
        try:
            yield watch
        finally:
            with self._watching:
                del self._watches[job_id]
                for news in watch.news():
                    self.send(news)

    def flush(self, timeout_s: float) -> None:
        """Wait until everything before has left this process, but not longer than that."""
        sent = threading.Event()
        self._outgoing.put(sent)
        sent.wait(timeout_s)

    def _send_all(self) -> None:
        due = time.monotonic() + _PROGRESS_EVERY_S
        while True:
            with contextlib.suppress(queue.Empty):
                self._send(self._outgoing.get(timeout=max(0.0, due - time.monotonic())))
            if time.monotonic() >= due:
                self._queue_progress()
                due = time.monotonic() + _PROGRESS_EVERY_S

    def _queue_progress(self) -> None:
        with self._watching:
            for watch in self._watches.values():
                for news in watch.news():
                    self.send(news)

    def _send(self, item: Item) -> None:
        match item:
            case threading.Event():
                item.set()
            case logging.LogRecord():
                self._send_pieces(pack(_log_line(item)))
            case pieces:
                self._send_pieces(pieces)

    def _send_pieces(self, pieces: tuple[bytes, bytes]) -> None:
        # The parent's death is the inbox's business.
        with contextlib.suppress(OSError):
            for piece in pieces:
                self._end.sendall(piece)


def _log_line(record: logging.LogRecord) -> LogLine:
    """A record that `QueueHandler` has prepared: text and traceback are its message already.

    What else it carries need not be picklable.
    """
    plain = {k: v for k, v in record.__dict__.items() if isinstance(v, str | int | float)}
    return LogLine({**plain, "exc_text": None, "stack_info": None})
