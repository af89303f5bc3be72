"""What a call leaves to be written when it ends, also if its sender has gone. Where the storage is
away, it is written as soon as that is back.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from server.accounts.threads import PATIENCE_S, Threads

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Closings:
    """Settlements and releases of credits that are on their way."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self, writing: Coroutine[Any, Any, T]) -> T | None:
        """Write it, and wait for that also where the caller is cancelled.

        Returns:
            What came of it; None where the storage is away, and it will be written later.
        """
        task = asyncio.create_task(writing)
        self._tasks.add(task)
        task.add_done_callback(self._closed)
        cancelled: asyncio.CancelledError | None = None
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not task.done() and self._threads.fault is None:
            try:
                left_s = deadline - asyncio.get_running_loop().time()
                if left_s <= 0:
                    break
                await asyncio.wait({task}, timeout=min(left_s, 0.1))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return task.result() if task.done() else None

    async def ended(self) -> None:
        """Wait for what is on its way, some seconds; what is not written by then is given back
        when the server's lease has ended.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE_S)
        if self._tasks:
            _log.error("%d calls ended while the database was away: free", len(self._tasks))
        for task in self._tasks:
            task.cancel()

    def _closed(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a call's end could not be written", exc_info=error)
