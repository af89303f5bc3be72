"""The denoise loop under several threads: who rides with whom changes nothing but the time."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import pytest
import torch

from pipeline.errors import Stopped
from pipeline.models.fitting import FittingBatches
from pipeline.models.sdxl.batch import UNetRows
from pipeline.models.sdxl.calls import UNetCalls
from pipeline.models.sdxl.loop import DenoiseLoop
from pipeline.models.sdxl.schedule import make_schedule
from pipeline.models.sdxl.text import Conditioning
from pipeline.models.sdxl.trajectory import Canvas, DenoiseTrajectory

# Of latents, which are of the order of 1.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Plan:
    """A trajectory in short: its own size, steps, strength, guidance and seed."""

    side: int = 8
    steps: int = 4
    strength: float = 0.5
    guidance: float = 6.0
    seed: int = 0
    tokens_width: int = 32


PLANS = [
    Plan(),
    Plan(steps=7, guidance=9.5, seed=1),
    Plan(side=16, steps=3, strength=1.0, seed=2),
    Plan(steps=1, guidance=1.0, seed=3),
    Plan(side=16, steps=5, guidance=5.0, strength=0.13, seed=4),
    Plan(steps=5, seed=5),
    Plan(side=24, steps=2, seed=6),
]


@pytest.fixture(scope="module")
def predict(detailer):
    """The UNet's, in float64: in float32, batches of other sizes round differently in the last
    bits, and guidance and steps multiply that, by how much depends on the weights.
    """
    tiny = detailer._inpainter
    unet = copy.deepcopy(tiny._unet).double()
    calls = UNetCalls(unet, None, tiny._config, tiny._memory, FittingBatches())

    def call(rows: UNetRows) -> torch.Tensor:
        named = {part.name: getattr(rows, part.name) for part in fields(rows)}
        double = {name: part.double() for name, part in named.items() if part is not None}
        return calls(UNetRows(**double)).float()

    return call


@pytest.fixture(scope="module")
def make_trajectory(noise_model):
    def make(plan: Plan) -> DenoiseTrajectory:
        generator = torch.Generator().manual_seed(plan.seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        picture, hidden, noise = (draw(1, 4, plan.side, plan.side) for _ in range(3))
        mask = draw(1, 1, plan.side, plan.side).sigmoid().round(decimals=1)
        texts = [Conditioning(draw(1, 77, plan.tokens_width), draw(1, 16)) for _ in range(2)]
        schedule = make_schedule(noise_model, "euler", plan.steps, plan.strength, "all")
        canvas = Canvas(picture, mask, hidden, noise)
        return DenoiseTrajectory(canvas, schedule, *texts, plan.guidance, told_px=plan.side * 4)

    return make


@pytest.fixture(scope="module")
def alone(predict, make_trajectory) -> dict[Plan, torch.Tensor]:
    """What each plan comes to when nobody else rides."""
    loop = DenoiseLoop(predict, 8)
    results = {}
    for plan in PLANS:
        trajectory = make_trajectory(plan)
        ride(loop, trajectory)
        results[plan] = trajectory.latents
    return results


def ride(loop: DenoiseLoop, *trajectories: DenoiseTrajectory) -> None:
    loop.run(trajectories, lambda _index: None, lambda: False)


def assert_close(
    trajectory: DenoiseTrajectory, plan: Plan, alone: dict[Plan, torch.Tensor]
) -> None:
    assert trajectory.done
    assert (trajectory.latents - alone[plan]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("most_rows", [8, 5, 2])
def test_walks_that_ride_together_end_as_they_do_alone(predict, make_trajectory, alone, most_rows):
    loop = DenoiseLoop(predict, most_rows)
    trajectories = [make_trajectory(plan) for plan in PLANS]
    ride(loop, *trajectories)
    for trajectory, plan in zip(trajectories, PLANS, strict=True):
        assert_close(trajectory, plan, alone)


def test_threads_join_and_leave_at_any_step(predict, make_trajectory, alone):
    sizes: list[int] = []

    def counting(rows: UNetRows) -> torch.Tensor:
        sizes.append(len(rows.timestep))
        return predict(rows)

    loop = DenoiseLoop(counting, 8)

    together = threading.Barrier(len(PLANS))

    def client(number: int) -> list[tuple[DenoiseTrajectory, Plan]]:
        plans = [PLANS[(number + offset) % len(PLANS)] for offset in range(2)]
        ridden = [(make_trajectory(plan), plan) for plan in plans]
        together.wait()
        ride(loop, *(trajectory for trajectory, _ in ridden))
        return ridden

    with ThreadPoolExecutor(len(PLANS)) as pool:
        ridden = list(pool.map(client, range(len(PLANS))))
    for trajectory, plan in (pair for pairs in ridden for pair in pairs):
        assert_close(trajectory, plan, alone)
    assert max(sizes) == 8  # two trajectories of one client need four rows


def test_a_call_that_raises_fails_its_riders_and_no_other(predict, make_trajectory, alone):
    """Text of another width than the UNet's makes the call itself raise."""
    loop = DenoiseLoop(predict, 8)
    wrong = make_trajectory(Plan(side=16, tokens_width=48))
    good, later = make_trajectory(PLANS[1]), make_trajectory(PLANS[5])
    with ThreadPoolExecutor(2) as pool:
        failing, riding = pool.submit(ride, loop, wrong), pool.submit(ride, loop, good)
        with pytest.raises(RuntimeError, match="48"):
            failing.result()
        riding.result()
    assert_close(good, PLANS[1], alone)
    ride(loop, later)
    assert_close(later, PLANS[5], alone)


def test_what_a_callback_raises_is_its_own_callers(predict, make_trajectory, alone):
    loop = DenoiseLoop(predict, 8)
    together = threading.Barrier(2)

    def failing(*_: int) -> None:
        raise LookupError("nobody listens")

    def ride_with(trajectory: DenoiseTrajectory, **callbacks) -> None:
        together.wait()
        loop.run(
            [trajectory],
            **{"on_step": lambda _index: None, "should_stop": lambda: False, **callbacks},
        )

    good = make_trajectory(PLANS[1])
    for name in ("on_step", "should_stop"):
        good = make_trajectory(PLANS[1])
        with ThreadPoolExecutor(2) as pool:
            bad = pool.submit(ride_with, make_trajectory(PLANS[5]), **{name: failing})
            riding = pool.submit(ride_with, good)
            with pytest.raises(LookupError, match="nobody listens"):
                bad.result()
            riding.result()
        assert_close(good, PLANS[1], alone)


def test_a_stop_ends_one_caller_within_a_step(predict, make_trajectory, alone):
    loop = DenoiseLoop(predict, 8)
    steps, stop = [], threading.Event()

    def count(_index: int) -> None:
        steps.append(None)
        if len(steps) == 3:
            stop.set()

    other = make_trajectory(PLANS[1])
    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(loop.run, [make_trajectory(Plan(steps=1000))], count, stop.is_set)
        riding = pool.submit(ride, loop, other)
        with pytest.raises(Stopped):
            stopped.result()
        riding.result()
    assert len(steps) == 3
    assert_close(other, PLANS[1], alone)


@pytest.mark.parametrize("side", [8, 16])
def test_a_short_walk_does_not_wait_behind_long_ones(predict, make_trajectory, side):
    """Of the calls' own size or of another, with more riders than one call holds."""
    loop = DenoiseLoop(predict, 4)
    long = [make_trajectory(Plan(steps=400, seed=seed)) for seed in range(5)]
    steps, stop, started = [], threading.Event(), threading.Event()

    def count(_index: int) -> None:
        steps.append(None)
        started.set()

    with ThreadPoolExecutor(1) as pool:
        riding = pool.submit(loop.run, long, count, stop.is_set)
        started.wait()
        before = len(steps)
        ended = []
        short = make_trajectory(Plan(side=side, steps=3))
        loop.run([short], lambda _index: ended.append(len(steps)), lambda: False)
        waited = ended[-1] - before
        stop.set()
        with pytest.raises(Stopped):
            riding.result()
    # Five trajectories, two at a time: a turn comes round at least every four calls.
    assert waited <= 3 * 2 * 4


def test_unshared_the_same_walk_gives_the_same_bits_whoever_else_walks(make_trajectory, predict):
    def walked(loop: DenoiseLoop, plan: Plan) -> torch.Tensor:
        trajectory = make_trajectory(plan)
        loop.run([trajectory], lambda _index: None, lambda: False)
        return trajectory.latents

    loop = DenoiseLoop(predict, 8, shared=False)
    alone = [walked(loop, plan) for plan in PLANS[:3]]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda plan: walked(loop, plan), PLANS[:3]))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
