"""What operators see of a worker: starting, ready, busy, dead."""

import asyncio
import contextlib
from pathlib import Path

import pytest
import worker_loads
from workers_support import begun, detail, job, loader, settings, until

from pipeline.report import Usage
from server.engine.messages import Vitals
from server.engine.scheduler import Slot
from server.engine.workers import WorkerPool
from server.metrics import Metrics
from server.types import WorkerState


def shown(metrics: Metrics) -> list[str]:
    """The states that the metrics say its one worker is in."""
    (family,) = metrics.worker_state.collect()
    return [sample.labels["state"] for sample in family.samples if sample.value]


def test_a_worker_goes_through_its_states(tmp_path: Path) -> None:
    async def life() -> list[list[str]]:
        metrics, seen = Metrics(), []
        chosen = settings(worker_concurrency=1)
        pool = WorkerPool(chosen, load=loader(worker_loads.inverter), metrics=metrics)
        await pool.start()
        await until(lambda: shown(metrics) != [])
        seen.append(shown(metrics))
        await until(lambda: shown(metrics) != seen[0])
        seen.append(shown(metrics))
        gate = tmp_path / "gate"
        running = asyncio.create_task(detail(pool, job(f"wait_for={gate}")))
        await until(lambda: begun(gate))
        seen.append(shown(metrics))
        gate.touch()
        await running
        seen.append(shown(metrics))
        await pool.stop()
        seen.append(shown(metrics))
        return seen

    assert asyncio.run(life()) == [["starting"], ["ready"], ["busy"], ["ready"], ["dead"]]


@pytest.mark.slow
def test_one_that_cannot_load_is_dead_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    monkeypatch.setenv("WORKER_STARTS", str(starts))
    Path(f"{starts}.broken").touch()

    async def die() -> None:
        metrics = Metrics()
        pool = WorkerPool(settings(), load=loader(worker_loads.logged), metrics=metrics)
        async with contextlib.AsyncExitStack() as stack:
            await pool.start()
            stack.push_async_callback(pool.stop)
            await until(lambda: shown(metrics) == [WorkerState.DEAD])
            assert metrics.worker_starts.labels("cpu")._value.get() >= 3

    asyncio.run(die())


def test_what_a_worker_says_too_late_is_not_counted() -> None:
    metrics = Metrics()
    pool = WorkerPool(settings(), load=loader(worker_loads.inverter), metrics=metrics)
    slot = Slot("cpu")
    for calls in (2, 1, 3):
        pool._note(slot, Vitals(Usage(calls, 3 * calls, 4 * calls), 1))
    assert metrics.unet_calls.labels("cpu")._value.get() == 3
    assert metrics.unet_rows.labels("cpu")._value.get() == 9
