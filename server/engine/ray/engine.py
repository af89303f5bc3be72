"""The engine of a cluster: every job goes to a replica of the worker, wherever Ray runs it."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Final

from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, ReplicaState  # type: ignore[attr-defined]

from pipeline.progress import OnProgress
from server.engine.messages import Answer, JobProgress
from server.engine.ray.replica import Replica
from server.engine.waiting import lanes_of
from server.errors import Busy, NoWorker, ServerError, Starting, TimedOut, WorkFailed
from server.metrics import KINDS, JobEnd, Metrics, end_of
from server.settings import Settings
from server.types import EngineState, Job, JobKind, Outcome

log = logging.getLogger(__name__)

INGRESS: Final = "ingress"
"""The deployment of the servers that share the replicas."""

_LOOK_EVERY_S: Final = 1.0
# A job whose replica dies is done by another one, so often; its own worker has had two tries there.
_MOST_REPLICAS: Final = 3
# A replica whose worker cannot be started any more gets jobs until Ray replaces it, after three
# checks of its health, five seconds apart: so long a job asks again for one that can do it.
_PATIENCE_S: Final = 30.0
_ASK_EVERY_S: Final = 1.0
_GIVEN_UP: Final = frozenset({DeploymentStatus.UNHEALTHY, DeploymentStatus.DEPLOY_FAILED})


class RayEngine:
    """Implements `server.types.Engine`. All its state belongs to the loop that called `start`.

    It counts the replicas that run, to know how many jobs are done at a time; which of them does a
    job is Ray's choice. Jobs wait with Ray, whose autoscaler goes by their number.
    """

    def __init__(
        self,
        settings: Settings,
        handle: DeploymentHandle[Replica],
        metrics: Metrics | None = None,
    ) -> None:
        """`handle`: of a deployment of `server.engine.ray.replica.Replica`. `metrics`: where it
        counts; None: where nobody looks.
        """
        self._settings = settings
        self._lanes = lanes_of(settings)
        self._metrics = metrics or Metrics()
        self._handle = handle.options(method_name="work", stream=True)
        self._replicas = 0
        self._servers = 1
        self._was_ready = False
        self._given_up = False
        self._stopping = False
        self._stop_at: float | None = None
        self._places: set[RayPlace] = set()
        self._running: dict[asyncio.Task[object], JobKind] = {}
        self._watch: asyncio.Task[None] | None = None
        self._metrics.watch_replicas(lambda: self._replicas)
        for kind in KINDS:
            waiting = self._metrics.queue_jobs.labels(kind)
            waiting.set_function(functools.partial(self._waiting, kind))

    @property
    def state(self) -> EngineState:
        """READY as soon as one replica runs; DEAD where Ray cannot start any."""
        if self._stopping or (self._given_up and not self._replicas):
            return EngineState.DEAD
        return EngineState.READY if self._replicas else EngineState.STARTING

    @property
    def capacity(self) -> int:
        """How many jobs are done at a time for this server: its share of all replicas, rounded up;
        0 while there is none.
        """
        return -(-self._at_a_time("detail") // self._servers)

    def _at_a_time(self, kind: JobKind) -> int:
        """How many jobs of a kind are done at a time."""
        return self._replicas * self._lanes[kind].concurrency

    def _waiting(self, kind: JobKind) -> int:
        """How many jobs of a kind, of this server's, wait with Ray."""
        given = sum(running == kind for running in self._running.values())
        return max(0, given - self._at_a_time(kind))

    async def start(self) -> None:
        """Begin to look for replicas; returns at once."""
        self._watch = asyncio.create_task(self._count_replicas(), name="replicas")

    async def stop(self) -> None:
        """Accept nothing more, and answer what runs within the grace period. The replicas live on:
        other servers use them.
        """
        self._stopping = True
        loop = asyncio.get_running_loop()
        # Whoever calls again waits for the same end.
        self._stop_at = self._stop_at or loop.time() + self._settings.shutdown_grace_s
        try:
            if self._running:
                patience_s = max(0.0, self._stop_at - loop.time())
                await asyncio.wait(self._running, timeout=patience_s)
        finally:
            self._stop_at = loop.time()
            if self._watch is not None:
                self._watch.cancel()
                await asyncio.wait([self._watch])

    @contextlib.contextmanager
    def reserve(
        self, account_id: int | None = None, kind: JobKind = "detail"
    ) -> Iterator["RayPlace"]:
        """A place for one job, kept until the block is left. Never waits.

        Args:
            account_id: whose job is to come; None: that is not known yet.
            kind: of the job.

        Raises:
            Busy: as many jobs wait as may wait, or as many of the account's.
            Starting: no replica has run yet.
            NoWorker: Ray cannot start any, or the server stops.
        """
        if self.state is EngineState.DEAD:
            raise NoWorker
        # Later, with the only replica just lost, a job may wait for the next one.
        if not self._was_ready:
            raise Starting
        if not self._has_room(account_id, kind):
            raise Busy
        place = RayPlace(self, account_id, kind)
        self._places.add(place)
        try:
            yield place
        finally:
            self._places.discard(place)

    def _has_room(self, account_id: int | None, kind: JobKind) -> bool:
        lane, at_a_time = self._lanes[kind], self._at_a_time(kind)
        taken = [place.account_id for place in self._places if place.kind == kind]
        own = 0 if account_id is None else taken.count(account_id)
        return len(taken) < lane.queue_size + at_a_time and own < lane.most_per_account + at_a_time

    async def do(self, job: Job, on_progress: OnProgress | None) -> Outcome:
        """Do one job; see `RayPlace.run`."""
        task = asyncio.current_task()
        if task is None or self.state is EngineState.DEAD:
            raise NoWorker
        self._running[task] = job.kind
        end: JobEnd = "cancelled"
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                answer = await self._answer(job, on_progress)
            end = end_of(answer)
        except TimeoutError:
            end = "timed_out"
            raise TimedOut from None
        finally:
            del self._running[task]
            self._metrics.count_job(job.kind, end)
        if isinstance(answer, ServerError):
            raise answer
        self._metrics.count_work(answer.seconds, answer.report)
        return answer

    async def _answer(self, job: Job, on_progress: OnProgress | None) -> Outcome | ServerError:
        """What a replica says; where one is lost, what the next says."""
        for _ in range(_MOST_REPLICAS):
            try:
                return await self._ask_able(job, on_progress)
            except RayActorError as error:
                log.warning("Job %s has lost its replica, and begins again: %s", job.id, error)
            except BackPressureError:
                return Busy()
            except DeploymentUnavailableError:
                return NoWorker()
            except (RayError, RayServeException):
                log.exception("Job %s failed.", job.id)
                return WorkFailed()
        log.error("Job %s has lost %d replicas: it fails.", job.id, _MOST_REPLICAS)
        return WorkFailed()

    async def _ask_able(self, job: Job, on_progress: OnProgress | None) -> Outcome | ServerError:
        """The answer of a replica that has a worker; of another, if none is found in time."""
        until_s = asyncio.get_running_loop().time() + _PATIENCE_S
        while isinstance(answer := await self._ask(job, on_progress), NoWorker):
            if self.state is EngineState.DEAD or asyncio.get_running_loop().time() > until_s:
                break
            log.warning("Job %s has come to a replica without a worker, and asks again.", job.id)
            await asyncio.sleep(_ASK_EVERY_S)
        return answer

    async def _ask(self, job: Job, on_progress: OnProgress | None) -> Outcome | ServerError:
        """One replica's answer. Cancelling the awaiting task cancels the job there."""
        answer: Outcome | ServerError | None = None
        # What a handle with `stream` gives, which its type does not say.
        messages: DeploymentResponseGenerator[JobProgress | Answer]
        messages = self._handle.remote(job)  # type: ignore[assignment]
        try:
            async for message in messages:
                match message:
                    case JobProgress(_, progress) if on_progress is not None:
                        # Not called here: what it raises must not end the job.
                        asyncio.get_running_loop().call_soon(on_progress, progress)
                    case Answer(_, answer):
                        pass
        finally:
            if answer is None:
                messages.cancel()  # type: ignore[no-untyped-call]
        return answer or WorkFailed()

    async def _count_replicas(self) -> None:
        """Look every second how many replicas run, until cancelled."""
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("Ray Serve's controller cannot be asked.")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._handle.deployment_id.app_name)
        deployments = application.deployments if application else {}
        deployment = deployments.get(self._handle.deployment_name)
        if not deployment:
            self._replicas = 0
            return
        servers = deployments.get(INGRESS)
        self._servers = max(1, _running(servers)) if servers else 1
        replicas = _running(deployment)
        if replicas != self._replicas:
            log.info("%d replicas of the worker run; before, %d.", replicas, self._replicas)
        self._replicas = replicas
        self._given_up = deployment.status in _GIVEN_UP
        self._was_ready = self._was_ready or replicas > 0


def _running(deployment: DeploymentStatusOverview) -> int:
    return deployment.replica_states.get(ReplicaState.RUNNING, 0)


class RayPlace:
    """A place in a `RayEngine` for one job."""

    def __init__(self, engine: RayEngine, account_id: int | None, kind: JobKind) -> None:
        self._engine = engine
        self.account_id = account_id
        self.kind = kind

    async def run(self, job: Job, on_progress: OnProgress | None = None) -> Outcome:
        """Do the job, once per place. Cancelling the awaiting task cancels the job.

        Raises:
            NoWorker: Ray can start no replica, or the server stops.
            TimedOut: the deadline, which counts from this call, passed.
            BadImage, TooLarge: the picture's pixels cannot be read.
            WorkFailed: the work raised, or its worker died over it, twice.
        """
        return await self._engine.do(job, on_progress)
