"""The parent's end of one worker process: it is started, talked to and ended here."""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

from server.engine.messages import HEADER, FromWorker, Setup, ToWorker, pack

_BUFFER_BYTES = 1 << 20
_END_S = 10.0


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
        """Send without waiting. To a dead worker this does nothing: `messages` ends then."""
        for piece in pack(message):
            self._writer.write(piece)

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
    Isolated from the current folder (-P), where a file may be named like a module.

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
        [sys.executable, "-P", "-m", "server.engine.worker", str(line)],
        stdin=subprocess.DEVNULL,
        pass_fds=[line],
        start_new_session=True,
        env=environment,
    )
