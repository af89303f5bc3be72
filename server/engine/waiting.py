"""Jobs that wait for a worker, and in which turn they get one."""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.progress import OnProgress
from pipeline.timing import StageTime
from server.errors import ServerError
from server.settings import Settings
from server.types import Job, JobKind, Outcome

# The turns of so many accounts are remembered; who was forgotten is served as if new.
_MOST_TURNS: Final = 10_000


def _now_s() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True, eq=False, weakref_slot=True)
class Ticket:
    """An accepted job.

    `answer`: what its sender waits for, until `deadline_s`. `begun_s`: when a worker got it; None
    while it waits. `waited_s`: how long it waited for its first worker; None: it still does.
    `excused`: how often its time began anew, since a job of somebody else's was in its way or its
    worker died. `suspect`: whether a worker died while it ran the job. `lone_deaths`: how many
    workers died while they ran this job and no other. Points in time are by the loop's clock, but
    for `submitted_ns`, since 1970.
    """

    job: Job
    answer: asyncio.Future[Outcome | ServerError]
    on_progress: OnProgress | None
    deadline_s: float
    submitted_s: float = field(default_factory=_now_s)
    begun_s: float | None = None
    waited_s: float | None = None
    submitted_ns: int = field(default_factory=time.time_ns)
    excused: int = 0
    suspect: bool = False
    lone_deaths: int = 0

    @property
    def waits(self) -> tuple[StageTime, ...]:
        """The wait for a worker, as a stage before the work's own."""
        if self.waited_s is None:
            return ()
        ended_ns = self.submitted_ns + int(self.waited_s * 1e9)
        return (StageTime("queue", self.submitted_ns, ended_ns),)

    def settle(self, answer: Outcome | ServerError) -> None:
        """Answer, unless that has happened or nobody waits any more."""
        if not self.answer.done():
            self.answer.set_result(answer)


def first_in_time(tickets: Iterable[Ticket]) -> Ticket | None:
    """The first whose deadline has not passed; the others are about to be answered."""
    return next(_in_time(tickets), None)


def _in_time(tickets: Iterable[Ticket]) -> Iterator[Ticket]:
    now_s = _now_s()
    return (ticket for ticket in tickets if ticket.deadline_s > now_s)


class FairQueue:
    """Waiting jobs. Accounts take turns: whoever has fewest jobs at work is next, of several the
    one whose last turn was longest ago; an account's own jobs keep their order.
    """

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._turns: OrderedDict[int, int] = OrderedDict()
        self._turn = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets)

    @property
    def counts(self) -> Counter[int | None]:
        """How many jobs of each account wait."""
        return Counter(ticket.job.account_id for ticket in self._tickets)

    def add(self, ticket: Ticket) -> None:
        """Let a job wait behind its account's others."""
        self._tickets.append(ticket)

    def add_first(self, ticket: Ticket) -> None:
        """Let a job that has waited before wait in front of its account's others."""
        self._tickets.appendleft(ticket)

    def discard(self, ticket: Ticket) -> None:
        """Let a job wait no longer, if it does."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def clear(self) -> list[Ticket]:
        """Let no job wait any longer; those that did."""
        tickets = list(self._tickets)
        self._tickets.clear()
        return tickets

    def pop(self, at_work: Mapping[int, int]) -> Ticket | None:
        """The next job, if one waits whose deadline has not passed. `at_work`: how many of each
        account's are being done.
        """
        turns = self._turns

        def rank(ticket: Ticket) -> tuple[int, int]:
            account_id = ticket.job.account_id
            return at_work.get(account_id, 0), turns.get(account_id, 0)

        ticket = min(_in_time(self._tickets), key=rank, default=None)
        if ticket is None:
            return None
        self._tickets.remove(ticket)
        self._turn += 1
        turns[ticket.job.account_id] = self._turn
        turns.move_to_end(ticket.job.account_id)
        if len(turns) > _MOST_TURNS:
            turns.popitem(last=False)
        return ticket


@dataclass(frozen=True, slots=True)
class Lane:
    """A kind of job's share: how many a worker does at a time, how many wait, and how many of one
    account.
    """

    concurrency: int
    queue_size: int
    most_per_account: int
    waiting: FairQueue = field(default_factory=FairQueue)


def lanes_of(settings: Settings) -> dict[JobKind, Lane]:
    """The lanes that the settings ask for."""
    concurrency: dict[JobKind, int] = {
        "detail": settings.worker_concurrency,
        "detect": settings.detect_concurrency,
    }
    most = max(1, int(settings.queue_size * settings.queue_share))
    return {kind: Lane(count, settings.queue_size, most) for kind, count in concurrency.items()}
