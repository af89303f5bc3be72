"""What the engine keeps in mind: of a job that it accepted, and of a device's worker."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from server.errors import ServerError
from server.link import WorkerProcess
from server.types import Job, Outcome

OnProgress = Callable[[int, int], None]

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True, eq=False)
class Ticket:
    """An accepted job. `answer`: what its sender waits for. `attempts`: how many workers had it."""

    job: Job
    answer: asyncio.Future[Outcome | ServerError]
    on_progress: OnProgress | None
    attempts: int = 0

    def settle(self, answer: Outcome | ServerError) -> None:
        """Answer, unless that has happened or nobody waits any more."""
        if not self.answer.done():
            self.answer.set_result(answer)


@dataclass(slots=True, eq=False)
class Slot:
    """A device's place.

    `process`: the worker that can serve now, or None. `running`: its jobs by their id.
    `loaded`, `served`: whether the present life got ready, and whether it answered a job;
    `failed_loads`, `idle_lives`: how many lives in a row did not.
    """

    device: str
    process: WorkerProcess | None = None
    running: dict[str, Ticket] = field(default_factory=dict)
    loaded: bool = False
    served: bool = False
    failed_loads: int = 0
    idle_lives: int = 0

    @property
    def pause_s(self) -> float:
        """How long to wait before the next life: none after one that has served, then doubling."""
        if self.idle_lives == 0:
            return 0.0
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self.idle_lives - 1, 10))
