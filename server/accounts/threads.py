"""Threads for what blocks, so that the HTTP process can await it, and patience with storage that is
away for a while.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

import tenacity

from server.accounts.faults import storage_faults
from server.errors import StorageAway

PATIENCE_S: Final = 5.0
"""So long after the beginning of a fault calls still wait for its end; later ones are refused."""

_THREADS: Final = 4
_TRY_EVERY_S: Final = 0.5
_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Threads of their own: a release of credits must not queue behind pictures being decoded; nor
    must whoever reads, behind those who wait for SQLite's lock to write.
    """

    def __init__(self) -> None:
        self._reading = _Lane("reading")
        self._writing = _Lane("writing")

    @property
    def fault(self) -> StorageAway | None:
        """Why calls are refused, while they are."""
        return self._writing.fault or self._reading.fault

    def close(self) -> None:
        """Finish what is running."""
        self._reading.close()
        self._writing.close()

    def read(
        self, method: Callable[P, T], *, patient: bool = False
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """The same call, to be awaited. It changes nothing.

        `patient`: it waits for as long as the storage is away. Otherwise it raises `StorageAway`,
        if that does not come back within `PATIENCE_S`.
        """

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            work = functools.partial(method, *args, **kwargs)
            return await self._reading.run(work, patient=patient, always=True)

        return call

    def write(
        self, method: Callable[P, T], *, patient: bool = False, always: bool = False
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """The same call, to be awaited; done twice, it must be as if done once. See `read`.

        `always`: whether it changes something whenever it succeeds. What changes nothing succeeds
        on a full disk too, and does not show that it has room again.
        """

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            work = functools.partial(method, *args, **kwargs)
            result = await self._writing.run(work, patient=patient, always=always)
            if always:
                self._reading.is_back()
            return result

        return call


class _Lane:
    """Some threads, and since when what they do fails for its storage.

    While it does, one try at a time, twice a second, finds out whether that is over.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)
        self._away_since: float | None = None
        self._kind: type[StorageAway] = StorageAway
        self._tries = 0
        self._tried_s = 0.0

    @property
    def fault(self) -> StorageAway | None:
        return self._kind() if self._away_s > PATIENCE_S else None

    @property
    def _away_s(self) -> float:
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    def close(self) -> None:
        self._executor.shutdown()

    def is_back(self) -> None:
        """What was away has been seen to work."""
        if self._away_since is not None:
            _log.warning("%s the database works again after %.1f s", self._name, self._away_s)
        self._away_since = None

    async def run(self, work: Callable[[], T], *, patient: bool, always: bool) -> T:
        has_failed = False

        async def attempt() -> T:
            nonlocal has_failed
            started = time.monotonic()
            too_soon = self._tries or started - self._tried_s < _TRY_EVERY_S
            if self._away_since is not None and too_soon:
                raise self._kind()
            try:
                return await self._try(work)
            except StorageAway:
                has_failed = True
                raise

        trying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(StorageAway),
            wait=tenacity.wait_random(_TRY_EVERY_S / 4, _TRY_EVERY_S),
            stop=tenacity.stop_never if patient else lambda _: self.fault is not None,
            reraise=True,
        )
        result: T = await trying(attempt)
        if always or has_failed:
            self.is_back()
        return result

    async def _try(self, work: Callable[[], T]) -> T:
        started = time.monotonic()
        self._tries += 1
        try:
            return await self._in_thread(work)
        except StorageAway as error:
            if self._away_since is None:
                why = str(error.__cause__).partition("\n")[0] or "it does not answer"
                _log.error("%s the database fails: %s", self._name, why)
                self._away_since = started
            self._kind, self._tried_s = type(error), time.monotonic()
            raise
        finally:
            self._tries -= 1

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread, to its end even if the caller is cancelled meanwhile.

        Raises:
            StorageAway: the storage is; or no thread got free, since it answers nobody.
        """

        def guarded() -> T:
            with storage_faults():
                return work()

        begun = self._executor.submit(guarded)
        future = asyncio.wrap_future(begun)
        cancelled: asyncio.CancelledError | None = None
        timeout: float | None = PATIENCE_S
        while not future.done():
            try:
                await asyncio.wait({future}, timeout=timeout)
                if not future.done() and begun.cancel():
                    raise cancelled or StorageAway()
                timeout = None
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            future.exception()
            raise cancelled
        return future.result()
