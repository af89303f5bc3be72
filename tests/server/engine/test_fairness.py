"""Accounts take turns at the workers, and looking for faces has a share of its own."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import worker_loads
from workers_support import begun, job, serving, until

from pipeline.request import Selection
from server.engine.workers import WorkerPool
from server.errors import Busy
from server.types import DetectOptions, Encoding, Job, JobKind, Outcome

FLOODER, OTHER = 1, 2


def of(account_id: int, prompt: str = "") -> Job:
    return replace(job(prompt), account_id=account_id)


def looking(account_id: int) -> Job:
    options = DetectOptions(Selection(), Encoding("png", 95), overlay=False)
    return replace(job(), options=options, account_id=account_id)


async def do(pool: WorkerPool, job: Job, done: list[Job] | None = None) -> Outcome:
    with pool.reserve(job.account_id, job.kind) as place:
        outcome = await place.run(job)
    if done is not None:
        done.append(job)
    return outcome


@asynccontextmanager
async def occupied(pool: WorkerPool, gate: Path, count: int) -> AsyncIterator[None]:
    """The flooder's jobs are at work until the block is left; `count` of them."""
    held = [of(FLOODER, f"wait_for={gate}{i}") for i in range(count)]
    tasks = [asyncio.create_task(do(pool, job)) for job in held]
    for i in range(count):
        await until(lambda i=i: begun(Path(f"{gate}{i}")))
    try:
        yield
    finally:
        for i in range(count):
            Path(f"{gate}{i}").touch()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_single_call_waits_for_one_of_fifty_at_most(tmp_path: Path, concurrency: int) -> None:
    async def flood() -> list[Outcome]:
        async with serving(worker_concurrency=concurrency, queue_size=100) as pool:
            async with occupied(pool, tmp_path / "gate", concurrency):
                flood = [of(FLOODER) for _ in range(50)]
                tasks = [asyncio.create_task(do(pool, each)) for each in flood]
                await asyncio.sleep(0)
                tasks.append(asyncio.create_task(do(pool, of(OTHER))))
                await asyncio.sleep(0)
                assert pool._scheduler.waiting("detail") == 51
            return await asyncio.gather(*tasks)

    *others, single = (began_ns(outcome) for outcome in asyncio.run(flood()))
    assert sum(other < single for other in others) < concurrency


def began_ns(outcome: Outcome) -> int:
    """When a worker got the job."""
    (queue,) = (stage for stage in outcome.stages if stage.name == "queue")
    return queue.ended_ns


def test_accounts_take_turns_also_where_one_worker_does_one_job(tmp_path: Path) -> None:
    async def turns() -> list[int]:
        done: list[Job] = []
        async with serving(worker_concurrency=1, queue_size=100) as pool:
            async with occupied(pool, tmp_path / "gate", 1):
                jobs = [of(account) for account in (1, 1, 1, 2, 2, 3)]
                tasks = [asyncio.create_task(do(pool, each, done)) for each in jobs]
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
        return [job.account_id for job in done]

    assert asyncio.run(turns()) == [2, 3, 1, 2, 1, 1]


def take_all(pool: WorkerPool, account_id: int, places: ExitStack) -> int:
    """How many places an account gets."""
    for taken in itertools.count():
        try:
            places.enter_context(pool.reserve(account_id))
        except Busy:
            return taken
    raise AssertionError


@pytest.mark.parametrize(
    ("queue_size", "share", "most"), [(8, 0.75, 6), (8, 1.0, 8), (1, 0.75, 1), (3, 0.1, 1)]
)
def test_an_account_gets_its_part_of_the_queue_and_another_the_rest(
    tmp_path: Path, queue_size: int, share: float, most: int
) -> None:
    async def fill() -> tuple[int, int]:
        async with (
            serving(worker_concurrency=1, queue_size=queue_size, queue_share=share) as pool,
            occupied(pool, tmp_path / "gate", 1),
        ):
            with ExitStack() as places:
                return take_all(pool, FLOODER, places), take_all(pool, OTHER, places)

    flooder, other = asyncio.run(fill())
    assert flooder == most
    assert other == min(most, queue_size - most)


def test_looking_for_faces_waits_for_no_repaint_and_no_repaint_for_it(tmp_path: Path) -> None:
    async def look() -> dict[JobKind, int]:
        async with (
            serving(
                worker_loads.finder, worker_concurrency=1, detect_concurrency=1, queue_size=1
            ) as pool,
            occupied(pool, tmp_path / "gate", 1),
        ):
            with pool.reserve(FLOODER):
                with pytest.raises(Busy), pool.reserve(OTHER):
                    pass
                outcome = await do(pool, looking(FLOODER))
                assert len(outcome.detections) == 1
            return {kind: pool._scheduler.waiting(kind) for kind in ("detail", "detect")}

    assert asyncio.run(look()) == {"detail": 0, "detect": 0}
