"""Does the stored jobs: claims them one after another, keeps their results, tells what happens.

A job is begun when the engine has a free place for it, and no sooner: until then it waits in the
database, where a restart finds it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from pipeline.timing import StageTime
from server.api.desk import Desk, sweep
from server.api.ends import tell_end
from server.api.prices import Prices
from server.api.replies import row_of
from server.api.stored import StoredResult
from server.api.working import Detail, Working
from server.errors import Busy, Cancelled, NoWorker, ServerError, Starting
from server.metrics import Metrics
from server.types import Engine, Place, StoredJob

_LOOK_EVERY_S: Final = 1.0
_KEEP_EVERY_S: Final = 10.0
# How long the ends of jobs may take to be kept when the server stops.
_LAST_S: Final = 5.0
_log = logging.getLogger(__name__)

OnEnd = Callable[[], None]
"""Called after the end of a job; returns at once."""


class _Interrupted(Exception):
    """The job did not end here: it is queued again, or another server has it."""


@dataclass(slots=True, eq=False)
class _Running:
    """A job that this server does. `work`: what comes of it; it alone is cancelled, so that whoever
    waits for it can always write the end. `stages`: of that work, once it is done. `stopped`:
    whether its sender asked for that.
    """

    job: StoredJob
    work: asyncio.Task[StoredResult]
    stages: Sequence[StageTime]
    stopped: bool = False


class JobRunner:
    """Runs stored jobs on an engine, on this server. All calls from one event loop."""

    def __init__(
        self,
        desk: Desk,
        engine: Engine,
        detail: Detail,
        on_end: OnEnd,
        *,
        owner: str,
        prices: Prices,
        metrics: Metrics,
        keep_s: float,
    ) -> None:
        """`on_end`: called after the end of every job. `owner`: this server's lease. `keep_s`: how
        long an ended job and its results are kept.
        """
        self._desk = desk
        self._engine = engine
        self._working = Working(desk, detail, prices)
        self._on_end = on_end
        self._sweep = partial(sweep, desk, keep_s)
        self._owner = owner
        self._metrics = metrics
        self._running: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        # Held while `_running` and what the database says of it change together.
        self._owning = asyncio.Lock()

    def wake(self) -> None:
        """A job was accepted: look at once."""
        self._woken.set()

    def stop_job(self, job_id: str) -> None:
        """Its sender asked to stop it; nothing happens if this server does not work on it."""
        running = self._running.get(job_id)
        if running is not None:
            running.stopped = True
            running.work.cancel()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do jobs while the block runs. On leaving it, what the engine has answered is kept, and
        what it gave back is queued again; nothing that waits is begun.
        """
        loops = [
            asyncio.create_task(loop(), name=name)
            for name, loop in (
                ("jobs", self._take),
                ("cancellations", self._keep_what_runs),
                ("sweep", self._sweep),
            )
        ]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            if tasks := list(self._tasks):
                await asyncio.wait(tasks, timeout=_LAST_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Where the storage is away, the next server on these files does it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await self._desk.jobs.put_back(self._owner)

    async def _take(self) -> None:
        """Begin whatever there is a place for."""
        while True:
            self._woken.clear()
            try:
                while len(self._running) < self._engine.capacity and await self._begin():
                    pass
                self._metrics.stored_jobs_waiting.set(await self._desk.jobs.waiting())
            except Exception:  # noqa: BLE001 - the loop outlives whatever happens
                _log.exception("stored jobs cannot be claimed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._woken.wait()

    async def _begin(self) -> bool:
        """Begin the next job; False if none waits, or there is no place for it."""
        # Looked at first: a place that is reserved for nothing is one less for v1's callers.
        if not await self._desk.jobs.any_waiting():
            return False
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(self._engine.reserve())
            except (Busy, Starting, NoWorker):
                return False
            async with self._owning:
                job = await self._desk.jobs.claim(self._owner)
                if job is None:
                    return False
                # Or another server took this one for dead, and queued again what still runs here.
                if job.id not in self._running:
                    self._start(job, place, stack.pop_all())
            return True

    def _start(self, job: StoredJob, place: Place, reservation: contextlib.ExitStack) -> None:
        log = self._desk.events.of(job.id)
        if log.is_empty:
            # Begun before it was told its place.
            log.add("queued", {"place": 0})
        log.add("processing", {})
        stages: list[StageTime] = []
        coming = self._working.result(job, place, stages)
        work = asyncio.create_task(coming, name=f"work of {job.id}")
        self._running[job.id] = running = _Running(job, work, stages)
        task = asyncio.create_task(self._do(running, reservation), name=f"job {job.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, running: _Running, reservation: contextlib.ExitStack) -> None:
        """See a job to its end. Cancelled only where the server ends."""
        job = running.job
        log = self._desk.events.of(job.id)
        try:
            with reservation:
                came_of_it = await self._came_of(running)
                name, data = await self._end(job, came_of_it)
            tell_end(job, name, came_of_it, running.stages, self._metrics)
            log.add(name, data)
            await asyncio.to_thread(self._desk.files.drop, "inputs", job.id)
            self._on_end()
        except _Interrupted:
            log.add("queued", {"place": 0})
            async with self._owning:
                await self._desk.jobs.put_back(self._owner, job.id)
                # Claimed again before, it would count as one that still runs here.
                del self._running[job.id]
        except Exception:  # noqa: BLE001 - it is queued again, and another attempt begins
            _log.exception("%s: the stored job's end could not be kept", job.id)
        finally:
            self._running.pop(job.id, None)
            self.wake()

    async def _came_of(self, running: _Running) -> StoredResult | Exception:
        """The job's result, or why there is none.

        Raises:
            _Interrupted: nobody could do it now.
        """
        try:
            return await running.work
        except asyncio.CancelledError:
            # By `stop_job`; or with this task, as the server ends.
            if not running.stopped:
                raise
            return Cancelled()
        except (NoWorker, Starting) as error:
            raise _Interrupted from error
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            if not isinstance(error, ServerError):
                _log.exception("%s: the stored job failed", running.job.id)
            return error

    async def _end(
        self, job: StoredJob, came_of_it: StoredResult | Exception
    ) -> tuple[str, Mapping[str, object]]:
        """Keep the end in the database; it as an event."""
        jobs = self._desk.jobs
        if isinstance(came_of_it, StoredResult):
            if await jobs.complete(job.id, self._owner, came_of_it.to_json(), came_of_it.cost):
                return "done", {}
            # Another server has it now, whose result counts.
            await asyncio.to_thread(self._desk.files.drop, "results", came_of_it.token)
            raise _Interrupted
        row = row_of(came_of_it)
        text = row.text.format(came_of_it)
        if not await jobs.fail(job.id, self._owner, text, row.status):
            raise _Interrupted
        return ("cancelled" if isinstance(came_of_it, Cancelled) else "failed"), {"error": text}

    async def _keep_what_runs(self) -> None:
        """Stop what another server was asked to stop; queue again what was begun and is lost."""
        while True:
            await asyncio.sleep(_KEEP_EVERY_S)
            try:
                async with self._owning:
                    asked = await self._desk.jobs.keep(self._owner, list(self._running))
                for job_id in asked:
                    self.stop_job(job_id)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("the cancellations of stored jobs cannot be read")
