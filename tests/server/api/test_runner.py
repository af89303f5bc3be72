"""The runner of stored jobs on real databases of both kinds: its places come back, and every job
ends once, whatever is asked and goes wrong meanwhile.
"""

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from bank import Bank, run
from http_service import ResizeEngine, encoded
from sqlalchemy import update

from pipeline.progress import OnProgress
from server.accounting import Account, QueueLimits
from server.accounts.database import LEASES
from server.accounts.jobs import MOST_ATTEMPTS
from server.accounts.leases import LEASE_S, Leases
from server.api import desk as desks
from server.api.desk import Desk
from server.api.detailing import Detailer
from server.api.events import EventLogs
from server.api.files import JobFiles
from server.api.parameters import parse
from server.api.pictures import PictureReader
from server.api.prices import Prices
from server.api.runner import JobRunner
from server.api.stored import StoredRequest
from server.errors import NoWorker
from server.metrics import Metrics
from server.types import Job, JobState, Outcome, Place, StoredJob, Submission

PRICE = Decimal("0.01")
ROOMY = QueueLimits(per_account=100, total=1000)
KEEP_S = 3600.0
DEADLINE_S = 20.0


class CountedEngine(ResizeEngine):
    """Knows how many of its places are taken and how many jobs were begun; ends none while it is
    closed.
    """

    taken = 0
    begun = 0
    closed = False

    async def run(self, job: Job, on_progress: OnProgress | None = None) -> Outcome:
        self.begun += 1
        while self.closed:
            await asyncio.sleep(0.01)
        return await super().run(job, on_progress)

    @contextlib.contextmanager
    def reserve(self, _account_id: int | None = None, _kind: str = "detail") -> Iterator[Place]:
        self.taken += 1
        try:
            yield self
        finally:
            self.taken -= 1


@dataclass
class Office:
    """A runner and what it works with."""

    bank: Bank
    account: Account
    desk: Desk
    engine: CountedEngine = field(default_factory=CountedEngine)
    ends: int = 0

    def runner(self) -> JobRunner:
        settings = self.bank.settings
        detailer = Detailer(settings, PictureReader(settings))
        return JobRunner(
            self.desk,
            self.engine,
            detailer.detail_stored(self.desk.files),
            self._count_end,
            owner=self.bank.accounts.lease,
            prices=Prices.of(settings),
            metrics=Metrics(),
            keep_s=KEEP_S,
        )

    def _count_end(self) -> None:
        self.ends += 1

    async def submit(self) -> str:
        job_id = uuid.uuid4().hex
        parameters = parse({"image": b"x", "prompt": "", "denoise": 0.4}, self.bank.settings)
        request = StoredRequest(parameters.options, parameters.seed, PRICE, "http://a.example")
        self.desk.files.put_input(job_id, encoded())
        sent = Submission(job_id, self.account.id, self.account.key_id, request.to_json())
        await self.desk.jobs.submit(sent, PRICE, ROOMY)
        return job_id

    async def job(self, job_id: str) -> StoredJob:
        return await self.desk.jobs.get(job_id, self.account.id)

    async def cancel(self, job_id: str) -> None:
        await self.desk.jobs.cancel(job_id, self.account.id, "Request was cancelled", 409)

    async def ended(self, job_id: str) -> StoredJob:
        async with asyncio.timeout(DEADLINE_S):
            while (job := await self.job(job_id)).state.is_open:
                await asyncio.sleep(0.02)
        return job

    def has_input(self, job_id: str) -> bool:
        return (self.bank.settings.data_dir / "requests" / "inputs" / job_id).exists()


@pytest.fixture
def office(bank: Bank) -> Office:
    files = JobFiles(Path(bank.settings.data_dir) / "requests", 2**30)
    desk = Desk(bank.accounts.jobs(files.id), files, EventLogs())
    return Office(bank, bank.account("1"), desk)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def at_work(office: Office) -> AsyncIterator[JobRunner]:
    runner = office.runner()
    async with office.bank.accounts.serving(office.desk.files.id), runner.running():
        yield runner


def test_a_job_that_is_cancelled_before_its_first_step_gives_its_place_back(
    office: Office,
) -> None:
    async def scene() -> StoredJob:
        runner = office.runner()
        job_id = await office.submit()
        # Nothing has been awaited since the task was made.
        assert await runner._begin()
        runner.stop_job(job_id)
        await office.cancel(job_id)
        job = await office.ended(job_id)
        await until(lambda: not runner._running)
        return job

    job = run(scene())
    assert (job.state, job.error, job.error_status) == (
        JobState.FAILED,
        "Request was cancelled",
        409,
    )
    assert (office.engine.taken, office.ends) == (0, 1)
    assert not office.has_input(job.id)


def test_a_job_that_is_cancelled_again_and_again_ends_once(office: Office) -> None:
    async def scene() -> str:
        office.engine.closed = True
        async with at_work(office) as runner:
            job_id = await office.submit()
            await until(lambda: office.engine.begun)
            await office.cancel(job_id)
            async with asyncio.timeout(DEADLINE_S):
                while office.engine.taken or office.has_input(job_id):
                    runner.stop_job(job_id)
                    await asyncio.sleep(0)
        assert (await office.job(job_id)).error == "Request was cancelled"
        return job_id

    job_id = run(scene())
    assert office.desk.events.of(job_id).ended
    assert office.ends == 1


@pytest.mark.slow
def test_while_nobody_can_do_them_jobs_wait_and_none_is_used_up(office: Office) -> None:
    seconds = 2.5

    async def scene() -> list[StoredJob]:
        office.engine.error = NoWorker()
        async with at_work(office):
            jobs = [await office.submit() for _ in range(10)]
            await asyncio.sleep(seconds)
            tries = office.engine.begun
            assert tries <= (seconds + 1) * office.engine.capacity, "it is a busy loop"
            office.engine.error = None
            return [await office.ended(job_id) for job_id in jobs]

    jobs = run(scene())
    assert {job.state for job in jobs} == {JobState.COMPLETED}
    assert {job.attempts for job in jobs} == {1}


def test_a_job_that_nobody_can_do_can_be_cancelled(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is cancelled before it is tried again.
    monkeypatch.setattr("server.api.working._PAUSE_S", 60)

    async def scene() -> StoredJob:
        office.engine.error = NoWorker()
        async with at_work(office) as runner:
            job_id = await office.submit()
            await until(lambda: office.engine.begun)
            await office.cancel(job_id)
            runner.stop_job(job_id)
            return await office.ended(job_id)

    assert run(scene()).error == "Request was cancelled"
    assert (office.engine.taken, office.ends) == (0, 1)


@pytest.mark.slow
def test_orderly_restarts_use_no_job_up(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.runner._LAST_S", 0.5)

    async def scene() -> StoredJob:
        office.engine.closed = True
        job_id = await office.submit()
        for times in range(MOST_ATTEMPTS + 1):
            async with at_work(office):
                await until(lambda times=times: office.engine.begun > times)
        waiting = await office.job(job_id)
        assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)
        office.engine.closed = False
        async with at_work(office):
            return await office.ended(job_id)

    assert run(scene()).state is JobState.COMPLETED


@pytest.mark.slow
def test_a_job_that_still_runs_is_not_begun_again_when_its_lease_had_ended(
    office: Office,
) -> None:
    """Another server has queued it again, as this one had no database for a while."""

    async def scene() -> StoredJob:
        lease, office.engine.closed = office.bank.accounts.lease, True
        async with at_work(office):
            job_id = await office.submit()
            await until(lambda: office.engine.begun)
            other = Leases(office.bank.engine, "other")
            other.join("elsewhere")
            with office.bank.engine.begin() as connection:
                late = LEASES.c.beat_ms - int((LEASE_S + 10) * 1000)
                query = update(LEASES).where(LEASES.c.id == lease).values(beat_ms=late)
                connection.execute(query)
            assert other.clear_up(KEEP_S).jobs == 1
            Leases(office.bank.engine, lease).renew(office.desk.files.id)
            async with asyncio.timeout(DEADLINE_S):
                while (await office.job(job_id)).state is not JobState.PROCESSING:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            assert (office.engine.begun, office.engine.taken) == (1, 1)
            office.engine.closed = False
            return await office.ended(job_id)

    assert run(scene()).state is JobState.COMPLETED
    assert (office.engine.begun, office.ends) == (1, 1)


def test_pictures_that_no_job_needs_are_swept_up(office: Office) -> None:
    async def scene() -> str:
        waiting = await office.submit()
        leftover, new = uuid.uuid4().hex, uuid.uuid4().hex
        for name in (leftover, new):
            office.desk.files.put_input(name, encoded())
        folder = Path(office.bank.settings.data_dir) / "requests" / "inputs"
        old = time.time() - desks._LEFTOVER_S - 1
        for name in (waiting, leftover):
            os.utime(folder / name, (old, old))
        await desks._delete_old(office.desk, KEEP_S)
        left = {file.name for file in folder.iterdir()}
        assert left == {waiting, new}
        return waiting

    assert office.has_input(run(scene()))
