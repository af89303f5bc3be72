"""One replica: a worker process under the care of an actor of Ray Serve."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pipeline.progress import Progress
from server import logs
from server.engine.messages import Answer, JobProgress
from server.engine.workers import WorkerPool
from server.errors import NoWorker, ServerError
from server.settings import read_settings
from server.types import EngineState, Job, Outcome

_LOOK_EVERY_S = 0.1


class NotLoaded(Exception):
    """No model could be loaded here; the log says why."""


class Replica:
    """Does jobs on the devices that Ray gave to this actor, as one server's engine does them.

    What the worker process may suffer, a death, a lost device, a job that hangs, is settled here;
    Ray replaces the replica only if no worker can be had any more.
    """

    async def __init__(self, load: str) -> None:  # type: ignore[misc]  # Ray awaits it
        """Starts the worker, with the settings of this node's environment; done when its models
        are loaded.

        Args:
            load: what it loads, as in `server.engine.messages.Setup`.

        Raises:
            NotLoaded: they cannot be.
            SettingsError: a setting is wrong.
        """
        settings = read_settings()
        logs.configure(settings.log_level, settings.log_format)
        # Who may come was decided by the ingress: there is room for whatever Ray sends.
        most = settings.worker_concurrency + settings.detect_concurrency
        queue_size = max(settings.queue_size, most)
        self._pool = WorkerPool(settings.model_copy(update={"queue_size": queue_size}), load)
        await self._pool.start()
        while self._pool.state is EngineState.STARTING:
            await asyncio.sleep(_LOOK_EVERY_S)
        if self._pool.state is not EngineState.READY:
            await self._pool.stop()
            raise NotLoaded("no worker could be started; the log of this replica says why")

    async def work(self, job: Job) -> AsyncIterator[JobProgress | Answer]:
        """Do a job: how far it is, and at last one answer. Closing the iterator cancels the job."""
        told: asyncio.Queue[Progress | None] = asyncio.Queue()
        task = asyncio.create_task(self._answer(job, told))
        try:
            while (progress := await told.get()) is not None:
                yield JobProgress(job.id, progress)
            yield Answer(job.id, await task)
        finally:
            task.cancel()
            # The worker has been told by then that nobody waits for this job.
            await asyncio.wait([task])

    async def _answer(
        self, job: Job, told: asyncio.Queue[Progress | None]
    ) -> Outcome | ServerError:
        try:
            with self._pool.reserve(kind=job.kind) as place:
                return await place.run(job, told.put_nowait)
        except ServerError as error:
            return error
        finally:
            told.put_nowait(None)

    def check_health(self) -> None:
        """Asked by Ray now and then.

        Raises:
            NoWorker: no worker can be had any more: this replica is to be replaced.
        """
        if self._pool.state is EngineState.DEAD:
            raise NoWorker("no worker can be started here")

    async def __del__(self) -> None:
        """Called by Ray once, when the replica has answered what it was sent."""
        with contextlib.suppress(AttributeError):
            await self._pool.stop()
