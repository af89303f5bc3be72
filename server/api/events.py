"""What becomes of stored jobs, as it happens: for those who watch, and for those who come back."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.progress import Progress

_MOST_EVENTS: Final = 100
_MOST_JOBS: Final = 10_000
# nginx passes events on at once, and nobody keeps them.
EVENT_HEADERS: Final = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
STEP: Final = "step"
UPSCALING: Final = "upscaling"
FINAL: Final = frozenset({"done", "failed", "cancelled"})
"""Events after which none comes."""


@dataclass(frozen=True, slots=True)
class Event:
    """`number`: from 1, one more for each of a job. `data`: JSON's own types."""

    number: int
    name: str
    data: Mapping[str, Any]


class EventLog:
    """The events of one job. All calls from one event loop."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._count = 0
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the last event was a final one."""
        return bool(self._events) and self._events[-1].name in FINAL

    @property
    def is_empty(self) -> bool:
        """Whether nothing has happened yet."""
        return not self._events

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has happened, or nothing since the job was queued."""
        return not self._events or self._events[-1].name == "queued"

    def add(self, name: str, data: Mapping[str, Any]) -> None:
        """The next event; nothing where it says what the last one said, or where all is over."""
        last = self._events[-1] if self._events else None
        if self.ended or (last is not None and (last.name, last.data) == (name, data)):
            return
        self._count += 1
        if last is not None and last.name == name and name in (STEP, UPSCALING):
            # Who comes later wants the latest: a job of thousands of steps or tiles keeps one.
            self._events.pop()
        self._events.append(Event(self._count, name, data))
        self.look_up()

    async def change(self) -> None:
        """Wait for the next event."""
        await self._changed.wait()

    def look_up(self) -> None:
        """Let all who wait for the next event see whether they still want it."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(
        self, number: int, is_enough: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[Event]:
        """Every event with a higher number, old and new, until a final one, which comes always; or
        until there is none and `is_enough` answers True.
        """
        if self.ended:
            number = min(number, self._count - 1)
        elif number > self._count:
            # An earlier server counted that far: of this one's events, none was seen.
            number = 0
        while True:
            changed = self._changed
            for event in [event for event in self._events if event.number > number]:
                number = event.number
                yield event
                if event.name in FINAL:
                    return
            if self.ended or is_enough():
                return
            await changed.wait()


def in_words(progress: Progress) -> tuple[str, dict[str, Any]]:
    """A stage or a step as an event: its name and data."""
    match progress.stage:
        case "found":
            return "found", {"faces": progress.faces}
        case "outline" | "detail" if progress.step is not None:
            step = progress.step
            return STEP, {
                "pass": progress.stage,
                "face": step.face,
                "faces": progress.faces,
                "sample": step.sample,
                "step": step.number,
                "steps": step.count,
                "done": progress.done,
                "total": progress.total,
                "share": round(progress.share, 4),
            }
        case "upscaling":
            return UPSCALING, {"share": round(progress.share, 4)}
        case stage:
            return stage, {}


class EventLogs:
    """The logs of the jobs that this server has seen lately."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, EventLog] = OrderedDict()

    def of(self, job_id: str) -> EventLog:
        """A job's log, which begins here if there is none."""
        log = self._logs.setdefault(job_id, EventLog())
        self._logs.move_to_end(job_id)
        while len(self._logs) > _MOST_JOBS:
            self._logs.popitem(last=False)
        return log

    def forget(self, job_id: str) -> None:
        """The job is gone."""
        self._logs.pop(job_id, None)
