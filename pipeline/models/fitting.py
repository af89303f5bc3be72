"""Batches that fit the device's memory: what does not is halved, and tried again."""

import logging
import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch

from pipeline.errors import OutOfMemory

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class FittingBatches:
    """Runs calls over rows in as many parts as the memory asks for; safe from several threads.

    A size that did not fit is not tried again: what fits is remembered for each kind of call.
    """

    def __init__(self) -> None:
        self._most: dict[Hashable, int] = {}
        self._lock = threading.Lock()

    def run(self, kind: Hashable, count: int, call: Callable[[slice], Result]) -> list[Result]:
        """The results of all parts, one after another.

        Args:
            kind: calls of one kind need the same memory per row.
            count: how many rows there are, 1 or more.
            call: given a range of rows, their result.

        Raises:
            OutOfMemory: not even one row fits.
        """
        parts: list[Result] = []
        start = 0
        while start < count:
            size = min(self._most.get(kind, count), count - start)
            done = _attempt(call, slice(start, start + size))
            if done:
                parts += done
                start += size
            else:
                self._shrink(kind, size)
        return parts

    def _shrink(self, kind: Hashable, failed: int) -> None:
        # Here, where the failed call's tensors are gone: what they left behind is given back.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if failed == 1:
            raise OutOfMemory(f"the device's memory does not hold one row of {kind}")
        with self._lock:
            self._most[kind] = min(self._most.get(kind, failed), failed // 2)
        logger.warning("Memory holds no %d rows of %s: %d at a time.", failed, kind, failed // 2)


def _attempt(call: Callable[[slice], Result], rows: slice) -> list[Result]:
    """The result; nothing where it does not fit."""
    try:
        return [call(rows)]
    except torch.OutOfMemoryError:
        return []
