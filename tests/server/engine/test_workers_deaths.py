"""The engine whose workers die, fail to load, or are told to end; and its own death."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import worker_loads
from workers_support import (
    alive,
    begun,
    detail,
    job,
    loader,
    serving,
    settings,
    stopped,
    until,
    worker_pid,
)

from server.engine import scheduler
from server.engine.plan import plan
from server.engine.workers import WorkerPool
from server.errors import NoWorker, WorkFailed
from server.types import EngineState, Outcome


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `worker_loads.logged` writes a line per life."""
    monkeypatch.setenv("WORKER_STARTS", str(tmp_path / "starts"))
    return tmp_path / "starts"


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_FIRST_PAUSE_S", 0.01)


def lives(starts: Path) -> list[list[str]]:
    return [line.split() for line in starts.read_text().splitlines()] if starts.exists() else []


def test_a_killed_worker_is_replaced_and_a_job_sent_meanwhile_waits_for_the_next() -> None:
    async def kill() -> None:
        async with serving() as pool:
            pid = await worker_pid(pool)
            os.kill(pid, signal.SIGKILL)
            assert await worker_pid(pool) != pid

    asyncio.run(kill())


@pytest.mark.slow
def test_when_a_worker_dies_the_time_of_its_job_and_of_whoever_waits_begins_anew(
    tmp_path: Path,
) -> None:
    timeout_s = 8.0

    async def die() -> None:
        async with serving(request_timeout_s=timeout_s, worker_concurrency=1) as pool:
            pid = await worker_pid(pool)
            running = asyncio.create_task(detail(pool, job(f"wait_for={tmp_path / 'running'}")))
            await until(lambda: begun(tmp_path / "running"))
            waiting = asyncio.create_task(detail(pool, job()))
            await asyncio.sleep(timeout_s - 2)
            os.kill(pid, signal.SIGKILL)
            # Until after the time that both had at first.
            await asyncio.sleep(3)
            (tmp_path / "running").touch()
            assert (await running).seconds["pid"] == (await waiting).seconds["pid"] != pid

    asyncio.run(die())


def test_all_jobs_of_a_worker_that_dies_are_done_by_the_next(
    tmp_path: Path, starts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def die() -> None:
        async with serving(worker_loads.logged, worker_concurrency=2) as pool:
            beside = asyncio.create_task(detail(pool, job(f"wait_for={tmp_path / 'beside'}")))
            await until(lambda: begun(tmp_path / "beside"))
            killing = asyncio.create_task(detail(pool, job(f"die_once={tmp_path / 'died'}")))
            # Touched before, it might be seen by the first worker, which has not died yet.
            await until(lambda: len(lives(starts)) == 2)
            (tmp_path / "beside").touch()
            killer = await killing
            pids = [int(life[0]) for life in lives(starts)]
            assert [killer.seconds["pid"], (await beside).seconds["pid"]] == [pids[1], pids[1]]
            assert len(pids) == 2
            assert not alive(pids[0])

    asyncio.run(die())
    assert any("SIGKILL" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("short_pauses")
def test_a_job_that_kills_two_workers_fails_and_the_next_one_is_served(starts: Path) -> None:
    async def die() -> None:
        async with serving(worker_loads.logged) as pool:
            with pytest.raises(WorkFailed):
                await detail(pool, job("exit_at_once=3"))
            assert len(lives(starts)) == 2
            await worker_pid(pool)
            assert len(lives(starts)) == 3

    asyncio.run(die())


def test_a_cancelled_job_is_not_tried_again(tmp_path: Path) -> None:
    async def die() -> None:
        async with serving(worker_concurrency=1) as pool:
            pid = await worker_pid(pool)
            hanging = asyncio.create_task(detail(pool, job(f"hang={tmp_path / 'x'}")))
            await until(lambda: begun(tmp_path / "x"))
            (tmp_path / "x.begun").unlink()
            hanging.cancel()
            await asyncio.wait([hanging])
            os.kill(pid, signal.SIGKILL)
            assert await worker_pid(pool) != pid
            assert not begun(tmp_path / "x")

    asyncio.run(die())


@pytest.mark.slow
def test_a_lost_device_costs_the_process_and_not_the_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def lose() -> Outcome:
        async with serving(request_timeout_s=100) as pool:
            return await detail(pool, job(f"lose_device_once={tmp_path / 'lost'}"))

    assert asyncio.run(lose()).seconds["done"] == 1
    assert any("illegal memory access" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.slow
def test_where_loading_keeps_failing_nobody_waits_and_repaired_weights_bring_it_back(
    tmp_path: Path, starts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Path(f"{starts}.broken")

    async def fail() -> None:
        async with serving(worker_loads.logged, worker_concurrency=1) as pool:
            broken.touch()
            hanging = [detail(pool, job(f"hang={tmp_path / name}")) for name in ("runs", "waits")]
            tasks = [asyncio.create_task(work) for work in hanging]
            await until(lambda: begun(tmp_path / "runs"))
            os.kill(int(lives(starts)[0][0]), signal.SIGKILL)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(answer) for answer in answers] == [NoWorker, NoWorker]
            assert pool.state is EngineState.DEAD
            assert len(lives(starts)) == 4
            with pytest.raises(NoWorker):
                await detail(pool, job())
            broken.unlink()
            await until(lambda: pool.state is EngineState.READY)
            await detail(pool, job())

    asyncio.run(fail())
    failures = [r.getMessage() for r in caplog.records if "failed" in r.getMessage()]
    assert failures[0] == (
        "Loading on cpu failed: a file of weights is missing: unet/model.safetensors"
    )


def test_pauses_double_up_to_a_minute_and_a_worker_that_has_served_is_replaced_at_once() -> None:
    pauses = [scheduler.Slot("cpu", idle_lives=n).pause_s for n in range(5)]
    assert pauses == [0, 0.5, 1, 2, 4]
    assert scheduler.Slot("cpu", idle_lives=10**6).pause_s == 60


def test_a_worker_is_told_its_device_and_profile(starts: Path) -> None:
    # As if this machine had the second one.
    chosen = replace(plan(settings()), devices=("cpu", "cuda:1"))

    async def start() -> None:
        pool = WorkerPool(settings(), load=loader(worker_loads.logged), chosen=chosen)
        await pool.start()
        try:
            await until(lambda: starts.exists() and len(lives(starts)) == 2)
        finally:
            await pool.stop()

    asyncio.run(start())
    assert sorted(life[1:] for life in lives(starts)) == [["cpu", "tiny"], ["cuda:1", "tiny"]]


@pytest.mark.slow
def test_stopping_answers_everybody(tmp_path: Path) -> None:
    done, late = tmp_path / "done", tmp_path / "late"

    async def stop() -> None:
        async with serving(worker_concurrency=2, shutdown_grace_s=3.0) as pool:
            pid = await worker_pid(pool)
            orders = (f"wait_for={done}", f"wait_for={late}", "")
            tasks = [asyncio.create_task(detail(pool, job(order))) for order in orders]
            await until(lambda: begun(done) and begun(late))
            stopping = asyncio.create_task(pool.stop())
            with pytest.raises(NoWorker):
                await tasks[2]
            with pytest.raises(NoWorker):
                await detail(pool, job())
            assert pool.state is EngineState.DEAD
            done.touch()
            assert (await tasks[0]).seconds["pid"] == pid
            with pytest.raises(NoWorker):
                await tasks[1]
            await stopping
            assert not alive(pid)

    asyncio.run(stop())


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.slow
def test_a_worker_that_dies_while_the_server_stops_is_not_replaced(
    tmp_path: Path, starts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one, other = tmp_path / "one", tmp_path / "other"

    async def stop() -> None:
        async with serving(worker_loads.logged, devices=("cpu", "cpu")) as pool:
            tasks = [asyncio.create_task(detail(pool, job(f"wait_for={f}"))) for f in (one, other)]
            await until(lambda: begun(one) and begun(other))
            stopping = asyncio.create_task(pool.stop())
            await asyncio.sleep(0)
            os.kill(int(lives(starts)[0][0]), signal.SIGKILL)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # Time enough for a replacement to be started.
            await asyncio.sleep(0.5)
            one.touch()
            other.touch()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert sorted(type(answer).__name__ for answer in answers) == ["NoWorker", "Outcome"]
            await stopping

    asyncio.run(stop())
    assert sum("starts on" in record.getMessage() for record in caplog.records) == 2


def test_stopping_while_a_worker_loads_leaves_no_process(starts: Path) -> None:
    async def stop() -> None:
        pool = WorkerPool(settings(shutdown_grace_s=120), load=loader(worker_loads.slow))
        await pool.start()
        await until(lambda: len(lives(starts)) == 1)
        started = time.monotonic()
        await pool.stop()
        assert time.monotonic() - started < 30
        await until(lambda: not any(alive(int(pid)) for pid in lives(starts)[0]))

    asyncio.run(stop())


def test_a_loop_that_ends_without_stopping_leaves_no_process(starts: Path) -> None:
    async def forget() -> None:
        # Held by a name: the loop does not hold its tasks, so a nameless pool may be collected.
        pool = WorkerPool(settings(), load=loader(worker_loads.slow))
        await pool.start()
        await until(lambda: len(lives(starts)) == 1)

    asyncio.run(forget())
    asyncio.run(until(lambda: not any(alive(int(p)) for p in lives(starts)[0])))


SERVER = """
import asyncio
from workers_support import detail, job, loader, settings
from server.engine.workers import WorkerPool
from server.types import EngineState
import worker_loads

async def main():
    pool = WorkerPool(settings(), load=loader(getattr(worker_loads, {load!r})))
    await pool.start()
    while pool.state is not EngineState.READY:
        await asyncio.sleep(0.01)
    await detail(pool, job({order!r}))

asyncio.run(main())
"""


@pytest.mark.parametrize("load", [pytest.param("slow", marks=pytest.mark.slow), "logged"])
def test_killing_the_server_leaves_no_process(tmp_path: Path, starts: Path, load: str) -> None:
    file = tmp_path / "x"
    program = SERVER.format(load=load, order=f"hang={file}")
    path = os.pathsep.join(filter(None, sys.path))
    server = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        asyncio.run(until(lambda: begun(file) if load == "logged" else bool(lives(starts))))
    finally:
        server.kill()
        server.wait()
    pids = [int(word) for word in lives(starts)[0] if word.isdecimal()]
    assert pids
    asyncio.run(until(lambda: not any(map(alive, pids))))


def test_signals_meant_for_the_server_leave_a_running_job_alone(tmp_path: Path) -> None:
    """The terminal sends SIGINT to the foreground group, a service manager SIGTERM to all."""
    file = tmp_path / "x"

    async def interrupt() -> None:
        async with serving() as pool:
            pid = await worker_pid(pool)
            assert os.getpgid(pid) != os.getpgrp()
            task = asyncio.create_task(detail(pool, job(f"wait_for={file}")))
            await until(lambda: begun(file))
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
            file.touch()
            assert (await task).seconds["pid"] == pid
            assert not stopped(file)

    asyncio.run(interrupt())
