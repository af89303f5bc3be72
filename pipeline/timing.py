"""When the stages of the work began and ended."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageTime:
    """Once through a stage. Points in time: nanoseconds since 1970."""

    name: str
    begun_ns: int
    ended_ns: int


@contextmanager
def timed(stages: list[StageTime], name: str) -> Iterator[None]:
    """Add the block's time to `stages`, unless it raises."""
    begun_ns = time.time_ns()
    # Its length by a clock that is never set.
    started_ns = time.perf_counter_ns()
    yield
    stages.append(StageTime(name, begun_ns, begun_ns + time.perf_counter_ns() - started_ns))


def seconds_of(stages: Iterable[StageTime]) -> dict[str, float]:
    """Each stage's seconds, of all times through it together, in the order of the first."""
    seconds: dict[str, float] = {}
    for stage in stages:
        length_s = (stage.ended_ns - stage.begun_ns) / 1e9
        seconds[stage.name] = seconds.get(stage.name, 0.0) + length_s
    return seconds
