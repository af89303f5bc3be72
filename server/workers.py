"""The engine: a bounded queue, one worker process per device, an answer for every accepted job."""

import asyncio
import logging
from collections import deque

from server.devices import plan_workers
from server.errors import Busy, NoWorker, ServerError, Starting, TimedOut, WorkFailed
from server.link import (
    Answer,
    Cancel,
    FromWorker,
    LogLine,
    Progress,
    Ready,
    Setup,
    WorkerProcess,
    worker_process,
)
from server.profiles import WeightsMissing, check_weights, profile_path
from server.settings import Settings
from server.slots import OnProgress, Slot, Ticket
from server.types import EngineState, Job, Outcome

log = logging.getLogger(__name__)

_ATTEMPTS = 2
_FAILED_LOADS_BEFORE_DEAD = 3


class WorkerPool:
    """Implements `server.types.Engine`. All its state belongs to the loop that called `start`.

    `load`: what a worker loads, as in `server.link.Setup`.
    """

    def __init__(self, settings: Settings, load: str = "pipeline.loading:load") -> None:
        self._settings = settings
        self._load = load
        self._slots: list[Slot] = []
        self._queue: deque[Ticket] = deque()
        self._main: asyncio.Task[None] | None = None
        self._was_ready = False
        self._stopping = False

    @property
    def state(self) -> EngineState:
        """READY as soon as one worker can serve; DEAD where loading keeps failing on all."""
        if self._stopping or (self._main is not None and self._main.done()):
            return EngineState.DEAD
        if any(slot.process for slot in self._slots):
            return EngineState.READY
        if self._slots and all(s.failed_loads >= _FAILED_LOADS_BEFORE_DEAD for s in self._slots):
            return EngineState.DEAD
        return EngineState.STARTING

    async def start(self) -> None:
        """Begin to start the workers; returns at once."""
        self._main = asyncio.create_task(self._run(), name="workers")

    async def stop(self) -> None:
        """Accept nothing more, answer what runs within the grace period, then end every worker."""
        self._stopping = True
        self._refuse_waiting()
        try:
            running = [t.answer for slot in self._slots for t in slot.running.values()]
            if running:
                await asyncio.wait(running, timeout=self._settings.shutdown_grace_s)
        finally:
            if self._main is not None:
                self._main.cancel()
                await asyncio.wait([self._main])

    async def detail(self, job: Job, on_progress: OnProgress | None = None) -> Outcome:
        """Do one job; cancelling the awaiting task cancels it. `on_progress(done, total)`: steps.

        Raises:
            Busy: the queue is full.
            Starting: no worker was ready yet.
            NoWorker: every worker is dead, or the server stops.
            TimedOut: the deadline passed.
            BadImage, TooLarge: the picture cannot be used after all.
            WorkFailed: the work raised, or its worker died twice over it.
        """
        self._admit()
        ticket = Ticket(job, asyncio.get_running_loop().create_future(), on_progress)
        self._queue.append(ticket)
        self._dispatch()
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                answer = await ticket.answer
        except TimeoutError:
            raise TimedOut from None
        finally:
            self._release(ticket)
        if isinstance(answer, ServerError):
            raise answer
        return answer

    def _admit(self) -> None:
        if self.state is EngineState.DEAD:
            raise NoWorker
        # Later, with the only worker just dead, a job may wait for the next one.
        if not self._was_ready:
            raise Starting
        if len(self._queue) >= self._settings.queue_size and self._freest() is None:
            raise Busy

    def _freest(self) -> Slot | None:
        """The slot that can take a job and has the fewest."""
        free = [
            slot
            for slot in self._slots
            if slot.process and len(slot.running) < self._settings.worker_concurrency
        ]
        return min(free, key=lambda slot: len(slot.running), default=None)

    def _dispatch(self) -> None:
        while self._queue and not self._stopping:
            slot = self._freest()
            if slot is None or slot.process is None:
                return
            ticket = self._queue.popleft()
            ticket.attempts += 1
            slot.running[ticket.job.id] = ticket
            slot.process.send(ticket.job)

    def _release(self, ticket: Ticket) -> None:
        """Its sender has gone. If it still waits or runs, it must not."""
        if ticket in self._queue:
            self._queue.remove(ticket)
        for slot in self._slots:
            if slot.process and slot.running.get(ticket.job.id) is ticket:
                slot.process.send(Cancel(ticket.job.id))
                patience_s = self._settings.request_timeout_s
                loop = asyncio.get_running_loop()
                loop.call_later(patience_s, self._kill_if_stuck, slot, slot.process, ticket.job.id)

    def _kill_if_stuck(self, slot: Slot, process: WorkerProcess, job_id: str) -> None:
        """A job that does not stop would hold its place for ever."""
        if slot.process is process and job_id in slot.running:
            log.error("Job %s on %s does not stop: its worker is killed.", job_id, slot.device)
            process.kill()

    async def _run(self) -> None:
        """Keep one worker alive per device until cancelled."""
        settings = self._settings
        try:
            plan = await asyncio.to_thread(plan_workers, settings.devices, settings.profile)
            self._slots = [Slot(device) for device in plan.devices]
            log.info("Profile %s on %s.", plan.profile, ", ".join(plan.devices))
            check_weights(plan.profile, settings.data_dir)
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    setup = self._setup(plan.profile, slot.device)
                    group.create_task(self._keep_alive(slot, setup, plan.threads))
        except WeightsMissing as error:
            log.error("%s", error)
        except Exception:
            log.exception("The workers cannot be run.")
        finally:
            self._stopping = True
            self._refuse_waiting()

    def _setup(self, profile: str, device: str) -> Setup:
        return Setup(
            load=self._load,
            profile_path=profile_path(profile, self._settings.data_dir),
            device=device,
            memory_mode=self._settings.memory_mode,
            concurrency=self._settings.worker_concurrency,
            max_image_pixels=self._settings.max_image_pixels,
            max_side_px=self._settings.max_side_px,
            log_level=logging.getLogger().getEffectiveLevel(),
        )

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
                self._refuse_waiting()
            await asyncio.sleep(slot.pause_s)

    async def _live(self, slot: Slot, setup: Setup, threads: int) -> None:
        """One worker's life, from its start to its end."""
        async with worker_process(setup, threads) as process:
            log.info("Worker %d starts on %s.", process.pid, slot.device)
            try:
                async for message in process.messages():
                    self._hear(slot, process, message)
            finally:
                slot.process = None
                self._take_back(slot)
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
            case Progress(job_id, done, total):
                # A late one may come after the answer: steps are told from any of its threads.
                ticket = slot.running.get(job_id)
                if ticket is not None and ticket.on_progress and not ticket.answer.done():
                    # Not called here: what it raises must not end the worker.
                    asyncio.get_running_loop().call_soon(ticket.on_progress, done, total)
            case Answer(job_id, answer):
                slot.served = True
                slot.running.pop(job_id).settle(answer)
            case LogLine(fields):
                record = logging.makeLogRecord(dict(fields))
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)
        self._dispatch()

    def _take_back(self, slot: Slot) -> None:
        """The worker is gone: its jobs go to the queue's head once, and fail the second time."""
        tickets = list(slot.running.values())
        slot.running.clear()
        for ticket in reversed(tickets):
            if self._stopping:
                ticket.settle(NoWorker())
            elif ticket.attempts >= _ATTEMPTS:
                log.error("Job %s has lost %d workers: it fails.", ticket.job.id, ticket.attempts)
                ticket.settle(WorkFailed())
            elif not ticket.answer.done():
                self._queue.appendleft(ticket)
        self._dispatch()

    def _refuse_waiting(self) -> None:
        while self._queue:
            self._queue.popleft().settle(NoWorker())
