"""One denoise loop per device, shared by all threads; a trajectory joins and leaves at any step.

Every turn takes the trajectories of one work size that have waited longest, runs one UNet call over
their rows, and hands each trajectory its own rows back. Faces of one picture, samples of one
request and requests of different users thus share the device, and a short trajectory does not wait
behind a long one.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import torch

from pipeline.models.sdxl.batch import TrajectoryBatch, UNetRows
from pipeline.models.sdxl.trajectory import DenoiseTrajectory
from pipeline.stages import OnStep, ShouldStop, check

Predict = Callable[[UNetRows], torch.Tensor]


@dataclass(slots=True)
class _Rider:
    trajectory: DenoiseTrajectory
    on_step: Callable[[], None]
    should_stop: ShouldStop
    party: object
    arrived: Future[None] = field(default_factory=Future)

    def check(self) -> None:
        """Go on, if anybody still waits."""
        check(self.should_stop)

    def tell(self) -> None:
        """Say that a step is taken."""
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
    """Runs trajectories to their end on a thread of its own; safe to call from any thread.

    `predict`: the UNet. `most_rows`: how many a call gets, unless one trajectory alone needs more.
    `shared`: whether trajectories of different `run` calls may share a UNet call. That keeps a GPU
    full. A CPU is full with one; unshared, the same trajectories give the same bits in any company,
    since no kernel sees another batch size.
    """

    def __init__(self, predict: Predict, most_rows: int, *, shared: bool = True) -> None:
        self._predict = predict
        self._shared = shared
        self._most_rows = most_rows
        self._waiting: deque[_Rider] = deque()
        self._together: TrajectoryBatch | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="denoise-loop", daemon=True)
        self._thread.start()

    def run(
        self, trajectories: Sequence[DenoiseTrajectory], on_step: OnStep, should_stop: ShouldStop
    ) -> None:
        """Take all of them to the end.

        Args:
            trajectories: any sizes mixed.
            on_step: called after each step of each trajectory with its index, from the loop's
                thread.
            should_stop: asked before each step, from the loop's thread.

        Raises:
            Stopped: `should_stop` answered True.
            Exception: whatever the UNet call of one of the trajectories raised, or a callback.
        """
        party = object()
        riders = [
            _Rider(trajectory, partial(on_step, index), should_stop, party)
            for index, trajectory in enumerate(trajectories)
        ]
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
            if not self._waiting:
                # Whoever was stopped holds no memory until the next one comes.
                self._together = None

    def _board(self) -> list[_Rider]:
        """Take the longest waiting trajectories of one size, as many as one call holds."""
        first = self._waiting[0]
        boarded: list[_Rider] = []
        left: deque[_Rider] = deque()
        rows = 0
        for rider in self._waiting:
            wanted = rider.trajectory.row_count
            fits = not boarded or rows + wanted <= self._most_rows
            meets = self._shared or rider.party is first.party
            if meets and fits and rider.trajectory.side == first.trajectory.side:
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
            self._step([rider.trajectory for rider in moving])
        # The thread serves everyone: whatever a call raises belongs to its riders, not to it.
        except Exception as error:  # noqa: BLE001
            self._together = None
            for rider in moving:
                rider.arrived.set_exception(error)
            return
        stepped = [rider for rider in moving if rider.attempt(rider.tell)]
        with self._changed:
            for rider in stepped:
                if rider.trajectory.done:
                    rider.arrived.set_result(None)
                else:
                    self._waiting.append(rider)

    def _step(self, trajectories: list[DenoiseTrajectory]) -> None:
        """One UNet call. Trajectories that rode together the last time are still put together."""
        batch = self._together
        if batch is None or not batch.holds(trajectories):
            batch = TrajectoryBatch(trajectories)
        batch.advance(self._predict(batch.rows()))
        self._together = None if any(member.done for member in trajectories) else batch
