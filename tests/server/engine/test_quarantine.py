"""A job that kills its worker fails alone: its neighbours are answered."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import worker_loads
from workers_support import SMALL, begun, detail, job, pixels, serving, until

from server.engine.workers import WorkerPool
from server.errors import TimedOut, WorkFailed
from server.types import Job, Outcome


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `worker_loads.logged` writes a line per life."""
    monkeypatch.setenv("WORKER_STARTS", str(tmp_path / "starts"))
    return tmp_path / "starts"


def lives(starts: Path) -> list[int]:
    return [int(line.split()[0]) for line in starts.read_text().splitlines()]


async def together(pool: WorkerPool, jobs: Sequence[Job]) -> list[Outcome | BaseException]:
    return await asyncio.gather(*(detail(pool, each) for each in jobs), return_exceptions=True)


def assert_right(outcome: Outcome | BaseException, seed: int) -> None:
    assert isinstance(outcome, Outcome), repr(outcome)
    np.testing.assert_array_equal(pixels(outcome.pictures[0]), 255 - SMALL + np.uint8(seed))


@pytest.mark.slow
def test_of_four_jobs_at_a_time_only_the_one_that_kills_its_worker_fails(starts: Path) -> None:
    async def poisoned() -> list[Outcome | BaseException]:
        async with serving(worker_loads.logged, worker_concurrency=4) as pool:
            jobs = [job("linger=1", seed=seed) for seed in range(3)]
            return await together(pool, [jobs[0], job("exit_at_once=3"), *jobs[1:]])

    first, culprit, *others = asyncio.run(poisoned())
    for seed, outcome in enumerate((first, *others)):
        assert_right(outcome, seed)
        assert isinstance(outcome, Outcome)
        assert outcome.seconds["most"] == 1, "a suspect had company"
    assert isinstance(culprit, WorkFailed)
    # In company, alone, alone again.
    assert len(lives(starts)) <= 4


@pytest.mark.slow
def test_two_poisonous_jobs_fail_and_the_two_beside_them_do_not() -> None:
    async def poisoned() -> list[Outcome | BaseException]:
        async with serving(worker_concurrency=4) as pool:
            orders = ("linger=0.2", "exit_at_once=1", "linger=0.2", "exit_at_once=2")
            return await together(pool, [job(order, seed=5) for order in orders])

    answers = asyncio.run(poisoned())
    assert [isinstance(answer, WorkFailed) for answer in answers] == [False, True, False, True]
    assert_right(answers[0], 5)
    assert_right(answers[2], 5)


@pytest.mark.slow
def test_while_suspects_run_alone_the_other_device_takes_several_jobs(
    tmp_path: Path,
) -> None:
    """And the device that died takes its own suspects, although ordinary jobs are waiting."""
    hold, trigger = tmp_path / "hold", tmp_path / "trigger"

    async def poisoned() -> tuple[list[Outcome], Outcome]:
        two = {"devices": ("cpu", "cpu"), "worker_concurrency": 2}
        async with serving(**two) as pool:
            jobs = [
                job(f"wait_for={hold}"),
                job(f"exit_once_begun={trigger}"),
                job(f"wait_for={tmp_path / 'beside'}"),
                job(f"wait_for={tmp_path / 'other'}"),
            ]
            tasks = [asyncio.create_task(detail(pool, each)) for each in jobs]
            files = [hold, tmp_path / "beside", tmp_path / "other"]
            await until(lambda: all(map(begun, files)))
            # The jobs alternate: `hold` and `beside` share a device, as do the poison and `other`.
            (tmp_path / "beside").touch()
            await tasks[2]
            (tmp_path / "other.begun").unlink()
            trigger.touch()
            await until(lambda: begun(tmp_path / "other"))
            # A suspect runs. Ordinary jobs find a place beside `hold`, on the device that lives.
            ordinary = [await detail(pool, job()) for _ in range(3)]
            assert not tasks[3].done()
            (tmp_path / "other").touch()
            hold.touch()
            with pytest.raises(WorkFailed):
                await tasks[1]
            assert (await tasks[3]).seconds["most"] == 1
            return ordinary, await tasks[0]

    ordinary, held = asyncio.run(poisoned())
    assert {outcome.seconds["pid"] for outcome in ordinary} == {held.seconds["pid"]}


def test_where_the_dead_worker_cannot_come_back_another_device_takes_its_suspects(
    tmp_path: Path, starts: Path
) -> None:
    files = [tmp_path / name for name in ("one", "two", "three", "four")]

    async def lose() -> list[Outcome]:
        two = {"devices": ("cpu", "cpu"), "worker_concurrency": 2}
        async with serving(worker_loads.logged, **two) as pool:
            tasks = [asyncio.create_task(detail(pool, job(f"wait_for={f}"))) for f in files]
            await until(lambda: all(map(begun, files)))
            for file in files:
                Path(f"{file}.begun").unlink()
            Path(f"{starts}.broken").touch()
            lost = lives(starts)[0]
            os.kill(lost, signal.SIGKILL)
            busy = [asyncio.create_task(keep_busy(pool)) for _ in range(4)]
            for file in files:
                file.touch()
            outcomes = await asyncio.gather(*tasks)
            for task in busy:
                task.cancel()
            await asyncio.wait(busy)
            assert {outcome.seconds["pid"] for outcome in outcomes} == {lives(starts)[1]}
            return outcomes

    async def keep_busy(pool: WorkerPool) -> None:
        while True:
            await detail(pool, job("linger=0.05"))

    assert len(asyncio.run(lose())) == 4


@pytest.mark.slow
def test_a_suspect_that_is_cancelled_is_not_run_and_one_that_waits_meets_its_deadline(
    tmp_path: Path,
) -> None:
    files = [tmp_path / name for name in ("first", "cancelled", "late")]

    async def die() -> None:
        async with serving(worker_concurrency=3, request_timeout_s=12.0) as pool:
            pid = int((await detail(pool, job())).seconds["pid"])
            tasks = [asyncio.create_task(detail(pool, job(f"wait_for={f}"))) for f in files]
            await until(lambda: all(map(begun, files)))
            for file in files:
                Path(f"{file}.begun").unlink()
            os.kill(pid, signal.SIGKILL)
            await until(lambda: begun(files[0]))
            tasks[1].cancel()
            await asyncio.sleep(1.0)
            assert not begun(files[2])
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(answer) for answer in answers] == [
                TimedOut,
                asyncio.CancelledError,
                TimedOut,
            ]
            assert not begun(files[1])
            # The place is free again for several at a time.
            assert len(await together(pool, [job(), job(), job()])) == 3

    asyncio.run(die())


@pytest.mark.slow
def test_the_neighbours_of_a_job_that_hangs_run_side_by_side_again(tmp_path: Path) -> None:
    """Its worker is killed by this side: the culprit is known, nobody else is suspected."""
    files = [tmp_path / "one", tmp_path / "two"]

    async def hang() -> None:
        async with serving(worker_concurrency=3, request_timeout_s=12.0) as pool:
            hanging = asyncio.create_task(detail(pool, job(f"hang={tmp_path / 'x'}")))
            await until(lambda: begun(tmp_path / "x"))
            with pytest.raises(TimedOut):
                await hanging
            await asyncio.sleep(1.0)
            tasks = [asyncio.create_task(detail(pool, job(f"wait_for={f}"))) for f in files]
            await until(lambda: all(map(begun, files)))
            for file in files:
                Path(f"{file}.begun").unlink()
            await until(lambda: all(map(begun, files)))
            for file in files:
                file.touch()
            outcomes = await asyncio.gather(*tasks)
            assert {outcome.seconds["most"] for outcome in outcomes} == {2}

    asyncio.run(hang())
