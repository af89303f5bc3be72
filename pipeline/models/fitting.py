"""Batches that fit the device's memory: one that does not is halved and tried again."""

import logging
import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from pipeline.errors import OutOfMemory

Result = TypeVar("Result")

# Calls at a limit before twice as much is tried again, and the most that failed retries, each of
# which doubles the wait, make of that. A UNet of 20 steps calls 20 times a batch.
RETRY_AFTER = 32
RETRY_AFTER_AT_MOST = 1024

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Limit:
    """The most rows a kind of call gets at present. `fitted`: calls at the limit since it was set.
    `wait`: how many of those until it is doubled. `retrying`: doubled, and not yet known to fit.
    """

    rows: int
    fitted: int = 0
    wait: int = RETRY_AFTER
    retrying: bool = False

    def hold(self, size: int) -> None:
        """A call of `size` rows has fitted."""
        if size < self.rows:
            return
        if self.retrying:
            self.retrying, self.wait = False, RETRY_AFTER
        self.fitted += 1
        if self.fitted >= self.wait:
            self.rows, self.fitted, self.retrying = 2 * self.rows, 0, True

    def shrink(self, size: int) -> None:
        """A call of `size` rows has not fitted."""
        if self.retrying:
            self.wait = min(2 * self.wait, RETRY_AFTER_AT_MOST)
        self.rows, self.fitted, self.retrying = min(self.rows, size // 2), 0, False


class FittingBatches:
    """Runs calls over rows in as many parts as the memory asks for; safe from several threads.

    What fits is remembered for each kind of call. Memory may have been short only for a moment, so
    after some calls twice as much is tried again; where that fails, its rows are halved as before.
    """

    def __init__(self) -> None:
        self._limits: dict[Hashable, _Limit] = {}
        self._lock = threading.Lock()

    def run(
        self,
        kind: Hashable,
        count: int,
        call: Callable[[slice, int], Result],
        menu: Sequence[int] = (),
    ) -> list[Result]:
        """The results of all parts, one after another.

        Args:
            kind: calls of one kind need the same memory per row.
            count: how many rows there are, 1 or more.
            call: given a range of rows, and to how many it is to be padded, their result.
            menu: sizes, ascending, that parts are padded to where that fits the memory.

        Raises:
            OutOfMemory: not even one row fits.
        """
        parts: list[Result] = []
        start = 0
        while start < count:
            most = self._most(kind)
            rows = min(most, count - start)
            size = next((size for size in menu if rows <= size <= most), rows)
            done = _attempt(call, slice(start, start + rows), size)
            if done:
                parts += done
                start += rows
                self._hold(kind, size)
            else:
                self._shrink(kind, size)
        return parts

    def _most(self, kind: Hashable) -> int:
        with self._lock:
            return self._limits[kind].rows if kind in self._limits else sys.maxsize

    def _hold(self, kind: Hashable, size: int) -> None:
        with self._lock:
            if kind in self._limits:
                self._limits[kind].hold(size)

    def _shrink(self, kind: Hashable, size: int) -> None:
        # Here, where the failed call's tensors are gone: what they left behind is given back.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if size == 1:
            raise OutOfMemory(f"the device's memory does not hold one row of {kind}")
        with self._lock:
            self._limits.setdefault(kind, _Limit(size)).shrink(size)
        logger.warning("Memory holds no %d rows of %s: %d at a time.", size, kind, size // 2)


def padded(values: torch.Tensor, size: int) -> torch.Tensor:
    """(N, …) → (size, …), the last row repeated; as they are if there are so many."""
    missing = size - len(values)
    if missing == 0:
        return values
    return torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])


def _attempt(call: Callable[[slice, int], Result], rows: slice, size: int) -> list[Result]:
    """The result; nothing where it does not fit."""
    try:
        return [call(rows, size)]
    except torch.OutOfMemoryError:
        return []
