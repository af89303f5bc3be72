"""What a request's storage says too late, or never: an accepted job keeps its picture."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from bank import Bank, run
from http_service import ResizeEngine, encoded
from sqlalchemy import Connection, event, func, select
from sqlalchemy.exc import OperationalError

from server.accounts.database import JOBS
from server.api.app import create_app
from server.types import JobState

BODY = {"image": base64.b64encode(encoded()).decode(), "prompt": "", "denoise": 0.4}
DEADLINE_S = 20.0


@contextlib.asynccontextmanager
async def calling(bank: Bank) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose calls are the application's own tasks, as on a cluster: one that is cancelled
    is cancelled there.
    """
    app = create_app(bank.settings, accounts=bank.accounts, engine=ResizeEngine())
    key = bank.keys.create_account("someone", None)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://a.example", headers={"x-api-key": key}
        ) as client,
    ):
        yield client


@contextlib.contextmanager
def jobs_locked(bank: Bank) -> Iterator[None]:
    """Nobody can write jobs."""
    with bank.engine.begin() as connection:
        if bank.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE jobs IN EXCLUSIVE MODE")
        yield


def inputs(bank: Bank) -> list[Path]:
    return list((bank.settings.data_dir / "requests" / "inputs").iterdir())


async def states(bank: Bank) -> list[str]:
    """Of all jobs, once they have ended."""
    query = select(JOBS.c.state, JOBS.c.finished_ms)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with bank.engine.connect() as connection:
                found = connection.execute(query).all()
            if found and all(row.finished_ms for row in found):
                return [row.state for row in found]
            await asyncio.sleep(0.05)


def test_a_sender_that_hangs_up_while_its_job_is_written_leaves_the_picture(bank: Bank) -> None:
    async def scene() -> list[str]:
        async with calling(bank) as client:
            with jobs_locked(bank):
                call = asyncio.create_task(client.post("/v2/face-detailer", json=BODY))
                async with asyncio.timeout(DEADLINE_S):
                    while not inputs(bank):
                        await asyncio.sleep(0.01)
                # Its job is being written by then, behind the lock.
                await asyncio.sleep(1.5)
                call.cancel()
                await asyncio.sleep(0.1)
            with contextlib.suppress(asyncio.CancelledError):
                await call
            return await states(bank)

    assert run(scene()) == [JobState.COMPLETED]
    assert inputs(bank) == []


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "a"}])
def test_a_job_whose_commits_answer_was_lost_keeps_its_picture(
    bank: Bank, headers: dict[str, str]
) -> None:
    lost: list[Connection] = []

    @event.listens_for(bank.engine, "commit")
    def lose(connection: Connection) -> None:
        if not lost and connection.scalar(select(func.count()).select_from(JOBS)):
            lost.append(connection)
            connection.connection.commit()
            raise OperationalError("COMMIT", None, ConnectionResetError("the connection is lost"))

    async def scene() -> list[str]:
        async with calling(bank) as client:
            reply = await client.post("/v2/face-detailer", json=BODY, headers=headers)
            assert reply.status_code == 200
            return await states(bank)

    assert run(scene()) == [JobState.COMPLETED]
    assert len(lost) == 1


def test_what_is_refused_or_repeated_leaves_no_picture(bank: Bank) -> None:
    async def scene() -> list[int]:
        async with calling(bank) as client:
            headers = {"idempotency-key": "a"}
            codes = []
            for body in (BODY, BODY, BODY | {"seed": 8}):
                reply = await client.post("/v2/face-detailer", json=body, headers=headers)
                codes.append(reply.status_code)
            assert await states(bank) == [JobState.COMPLETED]
            return codes

    assert run(scene()) == [200, 200, 409]
    assert inputs(bank) == []
