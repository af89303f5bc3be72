"""Jobs that never look up: their deadline costs them their worker, and nobody else an answer."""

import asyncio
from pathlib import Path

import pytest
from workers_support import begun, detail, job, serving, settings, until

from server.engine.workers import WorkerPool
from server.errors import TimedOut
from server.types import Outcome

# A worker may take some seconds to come back, which count.
TIMEOUT_S = 15.0


async def hang(pool: WorkerPool, tmp_path: Path, count: int) -> list[asyncio.Task[Outcome]]:
    """Jobs that hang, all begun."""
    files = [tmp_path / f"hung {i}" for i in range(count)]
    tasks = [asyncio.create_task(detail(pool, job(f"hang={file}"))) for file in files]
    await until(lambda: all(map(begun, files)))
    return tasks


@pytest.mark.slow
def test_who_waits_for_the_places_of_hung_jobs_is_answered(tmp_path: Path) -> None:
    """Posted when they were, so its own deadline is theirs."""

    async def scene() -> None:
        async with serving(request_timeout_s=TIMEOUT_S, worker_concurrency=4) as pool:
            hung = await hang(pool, tmp_path, 4)
            waiting = [asyncio.create_task(detail(pool, job())) for _ in range(3)]
            assert [type(e) for e in await asyncio.gather(*hung, return_exceptions=True)] == (
                [TimedOut] * 4
            )
            assert [(await task).width_px for task in waiting] == [5] * 3

    asyncio.run(scene())


@pytest.mark.slow
def test_who_runs_beside_a_hung_job_runs_again(tmp_path: Path) -> None:
    """A neighbour that is not done when the worker is killed."""
    file = tmp_path / "slow"

    async def scene() -> None:
        async with serving(request_timeout_s=TIMEOUT_S, worker_concurrency=2) as pool:
            (hung,) = await hang(pool, tmp_path, 1)
            await asyncio.sleep(TIMEOUT_S / 2)
            neighbour = asyncio.create_task(detail(pool, job(f"wait_for={file}")))
            await until(lambda: begun(file))
            with pytest.raises(TimedOut):
                await hung
            Path(f"{file}.begun").unlink()
            await until(lambda: begun(file))
            file.touch()
            assert (await neighbour).width_px == 5

    asyncio.run(scene())


@pytest.mark.slow
def test_a_job_that_hangs_again_is_at_its_end(tmp_path: Path) -> None:
    """However long its neighbours keep it waiting: no job takes more than a few deadlines."""

    async def scene() -> None:
        async with serving(request_timeout_s=TIMEOUT_S, worker_concurrency=1, queue_size=9) as pool:
            tasks = [
                asyncio.create_task(detail(pool, job(f"hang={tmp_path / str(i)}")))
                for i in range(3)
            ]
            answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 120)
            assert [type(answer) for answer in answers] == [TimedOut] * 3
            assert (await detail(pool, job())).width_px == 5

    asyncio.run(scene())


@pytest.mark.slow
def test_the_default_deadline_is_not_doubled_before_a_hung_job_is_killed(tmp_path: Path) -> None:
    """Its place is free some seconds after its deadline, also where its sender hung up before."""
    assert settings().request_timeout_s == 120

    async def scene() -> float:
        async with serving(request_timeout_s=20.0, worker_concurrency=1) as pool:
            loop = asyncio.get_running_loop()
            started = loop.time()
            (hung,) = await hang(pool, tmp_path, 1)
            hung.cancel()
            await until(lambda: not pool._scheduler.slots[0].running)
            return loop.time() - started

    assert asyncio.run(scene()) < 35
