"""One denoise loop per device, shared by all threads: walks join and leave it at any step.

Every turn takes the walks of one work size that have waited longest, runs one UNet call over their
rows, padded to a small menu of batch sizes so that compiled graphs see few shapes, and hands each
walk its own rows back. Faces of one picture, samples of one request and requests of different users
thus share the device, and a short walk does not wait behind a long one.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch

from pipeline.errors import Stopped
from pipeline.stages import OnStep, ShouldStop


@dataclass(frozen=True, slots=True)
class UNetRows:
    """UNet inputs; N rows of each. `sample`: (N, C, h, w). `timestep`: (N,) float32. `context`:
    (N, tokens, D). `pooled`: (N, P). `time_ids`: (N, 6).
    """

    sample: torch.Tensor
    timestep: torch.Tensor
    context: torch.Tensor
    pooled: torch.Tensor
    time_ids: torch.Tensor

    def __getitem__(self, part: slice) -> "UNetRows":
        """Some of the rows."""
        return UNetRows(
            self.sample[part],
            self.timestep[part],
            self.context[part],
            self.pooled[part],
            self.time_ids[part],
        )


class Walk(Protocol):
    """One job on its way from noise to picture."""

    @property
    def side(self) -> int:
        """Latent pixels a side: walks of one side can share a call."""

    @property
    def row_count(self) -> int:
        """Rows that each of its steps needs."""

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""

    def rows(self) -> UNetRows:
        """The inputs of the next step."""

    def advance(self, predicted: torch.Tensor) -> None:
        """Take the step. `predicted`: (row_count, 4, h, w), the UNet's answer."""


Predict = Callable[[UNetRows], torch.Tensor]


@dataclass(slots=True)
class _Rider:
    walk: Walk
    on_step: OnStep
    should_stop: ShouldStop
    party: object
    arrived: Future[None] = field(default_factory=Future)

    def check(self) -> None:
        """Go on, if anybody still waits."""
        if self.should_stop():
            raise Stopped("the work was stopped")

    def advance(self, predicted: torch.Tensor) -> None:
        """Take the step and tell of it."""
        self.walk.advance(predicted)
        self.on_step()

    def attempt(self, action: Callable[[], None]) -> bool:
        """Whether `action` went well; what it raises ends this rider's journey, and no other's."""
        try:
            action()
        except Exception as error:  # noqa: BLE001
            self.arrived.set_exception(error)
            return False
        return True


class DenoiseLoop:
    """Runs walks to their end on a thread of its own; safe to call from any number of threads.

    `predict`: the UNet. `batch_sizes`: the menu of row counts, ascending; the last is the most
    that one call gets. `shared`: whether walks of different `run` calls may share a UNet call. That
    is what keeps a GPU full; a CPU is full with one, and unshared, the same walks give the same
    bits whoever else walks, since no kernel sees another batch size.
    """

    def __init__(
        self, predict: Predict, batch_sizes: Sequence[int], *, shared: bool = True
    ) -> None:
        self._predict = predict
        self._shared = shared
        self._batch_sizes = tuple(batch_sizes)
        self._waiting: deque[_Rider] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="denoise-loop", daemon=True)
        self._thread.start()

    def run(self, walks: Sequence[Walk], on_step: OnStep, should_stop: ShouldStop) -> None:
        """Walk all to the end.

        Args:
            walks: any sizes mixed.
            on_step: called after each step of each walk, from the loop's thread.
            should_stop: asked before each step, from the loop's thread.

        Raises:
            Stopped: `should_stop` answered True.
            Exception: whatever the UNet call of one of the walks raised, or a callback.
        """
        party = object()
        riders = [_Rider(walk, on_step, should_stop, party) for walk in walks]
        with self._changed:
            self._waiting.extend(riders)
            self._changed.notify()
        # All are waited for, also after a failure: none may run on behind the caller's back.
        errors = [rider.arrived.exception() for rider in riders]
        for error in errors:
            if error is not None:
                raise error

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._waiting) > 0)
                riders = self._board()
            self._turn(riders)

    def _board(self) -> list[_Rider]:
        """Take the longest waiting walks of one size, as many as one call holds."""
        first = self._waiting[0]
        boarded: list[_Rider] = []
        left: deque[_Rider] = deque()
        rows = 0
        for rider in self._waiting:
            wanted = rider.walk.row_count
            fits = not boarded or rows + wanted <= self._batch_sizes[-1]
            meets = self._shared or rider.party is first.party
            if meets and fits and rider.walk.side == first.walk.side:
                boarded.append(rider)
                rows += wanted
            else:
                left.append(rider)
        self._waiting = left
        return boarded

    def _turn(self, riders: list[_Rider]) -> None:
        """One step of each rider; afterwards each waits again, has arrived or has failed."""
        moving = [rider for rider in riders if rider.attempt(rider.check)]
        if not moving:
            return
        try:
            parts = self._predict_all([rider.walk for rider in moving])
        # The thread serves everyone: whatever a call raises belongs to its riders, not to it.
        except Exception as error:  # noqa: BLE001
            for rider in moving:
                rider.arrived.set_exception(error)
            return
        stepped = [
            rider
            for rider, part in zip(moving, parts, strict=True)
            if rider.attempt(partial(rider.advance, part))
        ]
        with self._changed:
            for rider in stepped:
                if rider.walk.done:
                    rider.arrived.set_result(None)
                else:
                    self._waiting.append(rider)

    def _predict_all(self, walks: list[Walk]) -> Sequence[torch.Tensor]:
        """One UNet call: each walk's own rows of the answer."""
        counts = [walk.row_count for walk in walks]
        rows = _stack([walk.rows() for walk in walks], self._padded(sum(counts)))
        return torch.split(self._predict(rows)[: sum(counts)], counts)

    def _padded(self, rows: int) -> int:
        """The smallest size on the menu that holds `rows`; beyond the menu, `rows` itself."""
        return next((size for size in self._batch_sizes if size >= rows), rows)


def _stack(parts: list[UNetRows], padded: int) -> UNetRows:
    """All rows one after another, the last one repeated up to `padded`."""

    def join(tensors: list[torch.Tensor]) -> torch.Tensor:
        rows = torch.cat(tensors)
        missing = padded - len(rows)
        return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows

    return UNetRows(
        sample=join([part.sample for part in parts]),
        timestep=join([part.timestep for part in parts]),
        context=join([part.context for part in parts]),
        pooled=join([part.pooled for part in parts]),
        time_ids=join([part.time_ids for part in parts]),
    )
