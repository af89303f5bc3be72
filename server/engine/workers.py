"""The engine: one worker process per device, kept alive; an answer for every accepted job."""

import asyncio
import contextlib
import functools
import logging
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from pipeline.progress import OnProgress
from pipeline.report import Usage
from server.engine.messages import (
    Answer,
    FromWorker,
    JobProgress,
    LogLine,
    Ready,
    Setup,
    Vitals,
)
from server.engine.plan import Plan, ProfileNotReady, UnusableGpu, plan, setup_of
from server.engine.process import WorkerProcess, worker_process
from server.engine.scheduler import Scheduler, Slot
from server.engine.waiting import Ticket, lanes_of
from server.errors import Busy, NoWorker, ServerError, Starting, TimedOut
from server.metrics import KINDS, JobEnd, Metrics, end_of
from server.settings import Settings
from server.types import EngineState, Job, JobKind, Outcome, WorkerState

log = logging.getLogger(__name__)

_FAILED_LOADS_BEFORE_DEAD = 3
# How long a job may go on after it was told to stop at its deadline: a step, or a file's encoding.
_STOP_S = 5.0


class WorkerPool:
    """Implements `server.types.Engine`. All its state belongs to the loop that called `start`.

    `load`: what a worker loads, as in `server.engine.messages.Setup`.
    """

    def __init__(
        self,
        settings: Settings,
        load: str = "pipeline.loading:load",
        chosen: Plan | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`chosen`: `plan` of these settings; None: it is made when the workers start. `metrics`:
        where it counts; None: where nobody looks.
        """
        self._chosen = chosen
        self._settings = settings
        self._load = load
        self._metrics = metrics or Metrics()
        self._scheduler = Scheduler(lanes_of(settings), settings.request_timeout_s)
        for kind in KINDS:
            waiting = self._metrics.queue_jobs.labels(kind)
            waiting.set_function(functools.partial(self._scheduler.waiting, kind))
        self._reserved: set[PoolPlace] = set()
        self._main: asyncio.Task[None] | None = None
        self._was_ready = False
        self._stopping = False
        self._stop_at: float | None = None

    @property
    def state(self) -> EngineState:
        """READY as soon as one worker can serve; DEAD where loading keeps failing on all."""
        if self._stopping or (self._main is not None and self._main.done()):
            return EngineState.DEAD
        if any(slot.process for slot in self._scheduler.slots):
            return EngineState.READY
        if self._scheduler.slots and all(
            s.failed_loads >= _FAILED_LOADS_BEFORE_DEAD for s in self._scheduler.slots
        ):
            return EngineState.DEAD
        return EngineState.STARTING

    @property
    def capacity(self) -> int:
        """How many jobs are done at a time, on all devices; 0 while that is not known."""
        return self._settings.worker_concurrency * len(self._scheduler.slots)

    def state_of(self, slot: Slot) -> WorkerState:
        """What a worker is at."""
        if self._stopping:
            return WorkerState.DEAD
        if slot.process is None:
            lost = slot.failed_loads >= _FAILED_LOADS_BEFORE_DEAD
            return WorkerState.DEAD if lost else WorkerState.STARTING
        return WorkerState.BUSY if self._scheduler.is_busy(slot) else WorkerState.READY

    async def start(self) -> None:
        """Begin to start the workers; returns at once."""
        self._main = asyncio.create_task(self._run(), name="workers")

    async def stop(self) -> None:
        """Accept nothing more, answer what runs within the grace period, then end every worker."""
        self._stopping = True
        self._scheduler.refuse_waiting()
        loop = asyncio.get_running_loop()
        # Whoever calls again waits for the same end.
        self._stop_at = self._stop_at or loop.time() + self._settings.shutdown_grace_s
        try:
            running = [t.answer for slot in self._scheduler.slots for t in slot.running.values()]
            if running:
                await asyncio.wait(running, timeout=max(0.0, self._stop_at - loop.time()))
        finally:
            self._stop_at = loop.time()
            if self._main is not None:
                self._main.cancel()
                await asyncio.wait([self._main])

    @contextlib.contextmanager
    def reserve(
        self, account_id: int | None = None, kind: JobKind = "detail"
    ) -> Iterator["PoolPlace"]:
        """A place for one job, kept until the block is left. Never waits.

        Args:
            account_id: whose job is to come; None: that is not known yet.
            kind: of the job.

        Raises:
            Busy: the queue is full, or the account's part of it.
            Starting: no worker was ready yet.
            NoWorker: every worker is dead, or the server stops.
        """
        if self.state is EngineState.DEAD:
            raise NoWorker
        # Later, with the only worker just dead, a job may wait for the next one.
        if not self._was_ready:
            raise Starting
        given = Counter(place.account_id for place in self._reserved if place.kind == kind)
        if not self._scheduler.has_room(kind, account_id, given):
            raise Busy
        place = PoolPlace(self, account_id, kind)
        self._reserved.add(place)
        try:
            yield place
        finally:
            self._reserved.discard(place)

    async def do(self, job: Job, place: "PoolPlace", on_progress: OnProgress | None) -> Outcome:
        """Do one job in its place; see `PoolPlace.run`."""
        self._reserved.remove(place)
        if self.state is EngineState.DEAD:
            raise NoWorker
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._settings.request_timeout_s
        ticket = Ticket(job, loop.create_future(), on_progress, deadline_s)
        self._scheduler.submit(ticket)
        end: JobEnd = "cancelled"
        try:
            answer = await self._scheduler.answer_of(ticket)
            end = end_of(answer)
        except TimedOut:
            end = "timed_out"
            raise
        finally:
            self._withdraw(ticket)
            self._metrics.count_job(job.kind, end)
            if ticket.waited_s is not None:
                self._metrics.queue_seconds.labels(job.kind).observe(ticket.waited_s)
        if isinstance(answer, ServerError):
            raise answer
        self._metrics.count_work(answer.seconds, answer.report)
        return replace(answer, stages=(*ticket.waits, *answer.stages))

    def _withdraw(self, ticket: Ticket) -> None:
        """Its sender has gone or has its answer. If it still waits or runs, it must not."""
        # Without an answer it is as good as answered: nobody is to run it again.
        ticket.answer.cancel()
        slot = self._scheduler.withdraw(ticket)
        if slot is not None:
            loop = asyncio.get_running_loop()
            patience_s = min(_STOP_S, self._settings.request_timeout_s)
            # A job whose sender hung up has until its deadline to stop.
            at_s = max(loop.time(), ticket.deadline_s) + patience_s
            # Weakly: until then the loop would keep the picture of a job that has long stopped.
            loop.call_at(at_s, self._kill_if_stuck, slot, weakref.ref(ticket))

    def _kill_if_stuck(self, slot: Slot, withdrawn: weakref.ref[Ticket]) -> None:
        """A job that does not stop would keep its place for ever."""
        ticket = withdrawn()
        if ticket and slot.process and slot.running.get(ticket.job.id) is ticket:
            log.error(
                "Job %s on %s does not stop: its worker is killed.", ticket.job.id, slot.device
            )
            slot.stuck = True
            slot.process.kill()

    async def _run(self) -> None:
        """Keep one worker alive per device until cancelled."""
        settings = self._settings
        try:
            chosen = self._chosen
            if chosen is None:
                chosen = await asyncio.to_thread(plan, settings)
            self._scheduler.slots.extend(Slot(device) for device in chosen.devices)
            log.info("Profile %s on %s.", chosen.profile.name, ", ".join(chosen.devices))
            for slot in self._scheduler.slots:
                self._metrics.watch_worker(
                    slot.device, WorkerState, functools.partial(self.state_of, slot)
                )
            async with asyncio.TaskGroup() as group:
                for slot in self._scheduler.slots:
                    setup = setup_of(settings, self._load, chosen.profile.path, slot.device)
                    group.create_task(self._keep_alive(slot, setup, chosen.threads))
        except (ProfileNotReady, UnusableGpu) as error:
            log.error("%s", error)
        except Exception:
            log.exception("The workers cannot be run.")
        finally:
            self._stopping = True
            self._scheduler.refuse_waiting()

    async def _keep_alive(self, slot: Slot, setup: Setup, threads: int) -> None:
        while not self._stopping:
            slot.loaded = slot.served = False
            try:
                await self._live(slot, setup, threads)
            except Exception:
                log.exception("The worker on %s cannot be run.", slot.device)
            slot.failed_loads = 0 if slot.loaded else slot.failed_loads + 1
            slot.idle_lives = 0 if slot.served else slot.idle_lives + 1
            if self.state is EngineState.DEAD:
                self._scheduler.refuse_waiting()
            await asyncio.sleep(slot.pause_s)

    async def _live(self, slot: Slot, setup: Setup, threads: int) -> None:
        """One worker's life, from its start to its end."""
        async with worker_process(setup, threads) as process:
            self._metrics.worker_starts.labels(slot.device).inc()
            slot.vitals = Vitals(Usage(), 0)
            log.info("Worker %d starts on %s: it loads its networks.", process.pid, slot.device)
            try:
                async for message in process.messages():
                    self._hear(slot, process, message)
            finally:
                slot.process = None
                self._scheduler.worker_died(slot, stopping=self._stopping)
        log.error("Worker %d on %s has ended: %s.", process.pid, slot.device, process.ending)

    def _hear(self, slot: Slot, process: WorkerProcess, message: FromWorker) -> None:
        match message:
            case Ready(seconds):
                log.info(
                    "Worker %d on %s is ready after %.1f s.", process.pid, slot.device, seconds
                )
                slot.process = process
                slot.loaded = True
                slot.failed_loads = 0
                self._was_ready = True
            case JobProgress(job_id, progress):
                # A late one may come after the answer: steps are told from any of its threads.
                ticket = slot.running.get(job_id)
                if ticket is not None and ticket.on_progress and not ticket.answer.done():
                    # Not called here: what it raises must not end the worker.
                    asyncio.get_running_loop().call_soon(ticket.on_progress, progress)
            case Answer(job_id, answer, vitals):
                slot.served = True
                if vitals is not None:
                    self._note(slot, vitals)
                slot.running.pop(job_id).settle(answer)
            case Vitals():
                self._note(slot, message)
            case LogLine(fields):
                record = logging.makeLogRecord(dict(fields))
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)
        self._scheduler.dispatch()

    def _note(self, slot: Slot, now: Vitals) -> None:
        """Count what the worker has done since it last said."""
        before = slot.vitals
        if now.usage.calls < before.usage.calls:
            # Said by one of its threads before, and sent after, what another one said.
            return
        slot.vitals = now
        self._metrics.count_usage(slot.device, before.usage, now.usage, now.resident_bytes)


class PoolPlace:
    """Implements `server.types.Place` for a `WorkerPool`."""

    def __init__(self, pool: WorkerPool, account_id: int | None, kind: JobKind) -> None:
        self._pool = pool
        self.account_id = account_id
        self.kind = kind

    async def run(self, job: Job, on_progress: OnProgress | None = None) -> Outcome:
        """Do the job, once per place. Cancelling the awaiting task cancels the job.

        Raises:
            KeyError: the place has run a job, or its block was left.
            NoWorker: every worker is dead, or the server stops.
            TimedOut: the deadline passed.
            BadImage, TooLarge: the picture's pixels cannot be read.
            WorkFailed: the work raised, or its worker died over it, twice.
        """
        return await self._pool.do(job, self, on_progress)
