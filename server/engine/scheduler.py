"""Which device does which job next: the queue, and jobs that may have killed their worker."""

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.report import Usage
from server.engine.messages import Cancel, Vitals
from server.engine.process import WorkerProcess
from server.engine.waiting import Lane, Ticket, first_in_time
from server.errors import NoWorker, ServerError, TimedOut, WorkFailed
from server.types import JobKind, Outcome

log = logging.getLogger(__name__)

_LONE_DEATHS = 2
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_MOST_EXCUSES = 2
_LOOK_EVERY_S = 0.1
# Jobs that were begun together, as one caller's are, do not excuse each other.
_TOGETHER_S = 1.0


@dataclass(slots=True, eq=False)
class Slot:
    """One device and its worker.

    `process`: the worker that can serve now, or None. `running`: its jobs by their id.
    `stuck`: whether the worker is being killed because a job does not stop.
    `loaded`, `served`: whether the present worker got ready, and whether it answered a job;
    `failed_loads`, `idle_lives`: how many workers in a row did not. `vitals`: what it last said of
    itself.
    """

    device: str
    process: WorkerProcess | None = None
    running: dict[str, Ticket] = field(default_factory=dict)
    stuck: bool = False
    loaded: bool = False
    served: bool = False
    failed_loads: int = 0
    idle_lives: int = 0
    vitals: Vitals = field(default_factory=lambda: Vitals(Usage(), 0))

    def take(self, process: WorkerProcess, ticket: Ticket) -> None:
        """Hand a job to the slot's worker."""
        # Two servers may do one stored job at a time: the first has lost it, and does not know.
        while ticket.job.id in self.running:
            ticket.job = replace(ticket.job, id=f"{ticket.job.id}+")
        ticket.begun_s = asyncio.get_running_loop().time()
        if ticket.waited_s is None:
            ticket.waited_s = ticket.begun_s - ticket.submitted_s
        self.running[ticket.job.id] = ticket
        process.send(ticket.job)

    def count(self, kind: JobKind) -> int:
        """How many jobs of a kind the worker has."""
        return sum(ticket.job.kind == kind for ticket in self.running.values())

    @property
    def quarantined(self) -> bool:
        """Whether the worker runs a suspect, which gets no company."""
        return any(ticket.suspect for ticket in self.running.values())

    @property
    def pause_s(self) -> float:
        """How long to wait before the next life: none after one that has served, then doubling."""
        if self.idle_lives == 0:
            return 0.0
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self.idle_lives - 1, 10))


class Scheduler:
    """Gives waiting jobs to workers, several to each; a suspect gets a worker to itself.

    Each kind of job has a lane, a queue and a share of every worker, of its own. A worker that dies
    does not say which of its jobs killed it. All of them become suspects, and run one at a time
    until they are answered. Only a job whose workers die while it runs alone, twice, fails.
    """

    def __init__(self, lanes: Mapping[JobKind, Lane], timeout_s: float) -> None:
        """`timeout_s`: how long a job may take, waiting included."""
        self._lanes = lanes
        self._timeout_s = timeout_s
        self._suspects: deque[Ticket] = deque()
        self.slots: list[Slot] = []

    def has_room(
        self, kind: JobKind, account_id: int | None, reserved: Counter[int | None]
    ) -> bool:
        """Whether one more job may come, with so many places of its kind given away, by account, to
        jobs still to come.
        """
        lane = self._lanes[kind]
        waiting = reserved + lane.waiting.counts
        waiting += Counter(t.job.account_id for t in self._suspects if t.job.kind == kind)
        free = sum(self._free(slot, kind) for slot in self.slots)
        own = 0 if account_id is None else waiting[account_id]
        return waiting.total() < lane.queue_size + free and own < lane.most_per_account + free

    def waiting(self, kind: JobKind) -> int:
        """How many jobs of a kind wait for a worker."""
        return len(self._lanes[kind].waiting) + sum(t.job.kind == kind for t in self._suspects)

    def submit(self, ticket: Ticket) -> None:
        """Take a job in."""
        self._lanes[ticket.job.kind].waiting.add(ticket)
        self.dispatch()

    def withdraw(self, ticket: Ticket) -> Slot | None:
        """Nobody waits for this job any more; the slot that has yet to stop it, if any."""
        self._lanes[ticket.job.kind].waiting.discard(ticket)
        if ticket in self._suspects:
            self._suspects.remove(ticket)
        for slot in self.slots:
            if slot.process and slot.running.get(ticket.job.id) is ticket:
                slot.process.send(Cancel(ticket.job.id))
                return slot
        return None

    async def answer_of(self, ticket: Ticket) -> Outcome | ServerError:
        """What came of a job.

        Raises:
            TimedOut: nothing did until its deadline.
        """
        loop = asyncio.get_running_loop()
        while not ticket.answer.done():
            left_s = ticket.deadline_s - loop.time()
            if left_s <= 0 and not self._has_to_wait(ticket):
                raise TimedOut
            await asyncio.wait({ticket.answer}, timeout=max(left_s, _LOOK_EVERY_S))
        return ticket.answer.result()

    def _has_to_wait(self, ticket: Ticket) -> bool:
        """Whether a job that does not stop at its deadline has the place that this one waits for,
        or had the same worker before it: its end gives this one more time.
        """
        now = asyncio.get_running_loop().time()
        own = [slot for slot in self.slots if slot.running.get(ticket.job.id) is ticket]
        return any(
            other.deadline_s <= now and (not own or _is_later(ticket, other))
            for slot in own or self.slots
            for other in slot.running.values()
        )

    def dispatch(self) -> None:
        """Give out what can be given out: to be called after every change."""
        for slot in self.slots:
            suspect = first_in_time(self._suspects)
            if suspect and slot.process and not slot.running:
                self._suspects.remove(suspect)
                slot.take(slot.process, suspect)
        for kind, lane in self._lanes.items():
            while (freest := self._freest(kind)) and freest.process:
                ticket = lane.waiting.pop(self._at_work(kind))
                if ticket is None:
                    break
                freest.take(freest.process, ticket)

    def _freest(self, kind: JobKind) -> Slot | None:
        """Of the slots that can take one more ordinary job of a kind, the one with fewest."""
        free = [slot for slot in self.slots if self._free(slot, kind) > 0]
        return min(free, key=lambda slot: slot.count(kind), default=None)

    def is_busy(self, slot: Slot) -> bool:
        """Whether the slot's worker takes no further picture to detail now."""
        return self._free(slot, "detail") == 0

    def _at_work(self, kind: JobKind) -> Counter[int]:
        """How many jobs of a kind each account has in the workers."""
        jobs = (ticket.job for slot in self.slots for ticket in slot.running.values())
        return Counter(job.account_id for job in jobs if job.kind == kind)

    def _free(self, slot: Slot, kind: JobKind) -> int:
        """How many more ordinary jobs of a kind the slot can take."""
        if slot.process is None or slot.quarantined or slot is self._emptying():
            return 0
        return self._lanes[kind].concurrency - slot.count(kind)

    def _emptying(self) -> Slot | None:
        """The slot that takes no new job so that a waiting suspect gets a worker to itself.

        None while there is no need: a worker runs a suspect and takes the next one after it, or
        the successor of a dead worker is on its way.
        """
        if not self._suspects:
            return None
        if any(s.quarantined or (s.process is None and s.failed_loads == 0) for s in self.slots):
            return None
        ready = [slot for slot in self.slots if slot.process]
        return min(ready, key=lambda slot: len(slot.running), default=None)

    def worker_died(self, slot: Slot, *, stopping: bool) -> None:
        """What the slot's worker ran runs again; a job that has killed two by itself fails.

        `stopping`: nothing runs again, because the server ends.
        """
        tickets = list(slot.running.values())
        slot.running.clear()
        known, slot.stuck = slot.stuck, False
        if stopping:
            for ticket in tickets:
                ticket.settle(NoWorker())
        elif known:
            # The job that did not stop is to blame, and its sender has gone.
            for ticket in reversed(tickets):
                if not ticket.answer.done():
                    self._lanes[ticket.job.kind].waiting.add_first(ticket)
            self._excuse_waiting()
        elif tickets:
            for ticket in tickets:
                self._suspect(ticket, alone=len(tickets) == 1)
            self._excuse_waiting()
        self.dispatch()

    def _excuse_waiting(self) -> None:
        """They have lost time, or their work, for somebody else's job or with their worker: their
        time begins anew.
        """
        now = asyncio.get_running_loop().time()
        lanes = (lane.waiting for lane in self._lanes.values())
        for ticket in itertools.chain(*lanes, self._suspects):
            ticket.begun_s = None
            if ticket.excused < _MOST_EXCUSES:
                ticket.excused += 1
                ticket.deadline_s = now + self._timeout_s

    def _suspect(self, ticket: Ticket, *, alone: bool) -> None:
        if ticket.answer.done():
            return
        ticket.suspect = True
        ticket.lone_deaths += alone
        if ticket.lone_deaths >= _LONE_DEATHS:
            log.error("Job %s killed %d workers: it fails.", ticket.job.id, ticket.lone_deaths)
            ticket.settle(WorkFailed())
            return
        log.warning("Job %s ran in a worker that died: it runs again, alone.", ticket.job.id)
        # Behind the others: those that are innocent need not wait for further deaths.
        self._suspects.append(ticket)

    def refuse_waiting(self) -> None:
        """Answer what has not begun: no worker will come."""
        for lane in self._lanes.values():
            for ticket in lane.waiting.clear():
                ticket.settle(NoWorker())
        while self._suspects:
            self._suspects.popleft().settle(NoWorker())


def _is_later(ticket: Ticket, other: Ticket) -> bool:
    """Whether it was begun some time after the other."""
    if ticket.begun_s is None or other.begun_s is None:
        return False
    return ticket.begun_s - other.begun_s > _TOGETHER_S
