"""The engine with living workers: answers, failures, the queue, cancelling, deadlines."""

import asyncio
import contextlib
import dataclasses
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import worker_loads
from PIL.ExifTags import Base
from ray_support import replicas, serving_by_ray
from workers_support import (
    SMALL,
    begun,
    detail,
    job,
    loader,
    pixels,
    png,
    serving,
    settings,
    stopped,
    until,
    worker_pid,
)

from pipeline.progress import Progress
from server.engine.workers import WorkerPool
from server.errors import BadImage, Busy, NoMemory, Starting, TimedOut, TooLarge, WorkFailed
from server.types import Engine, EngineState, Job, Outcome


class Shared:
    """One engine on one loop, for the tests that leave their worker as they found it."""

    def __init__(
        self, runner: asyncio.Runner, engine: AbstractAsyncContextManager[Engine], *, logs: bool
    ) -> None:
        """`logs`: whether the worker's log is this process's."""
        self.run = runner.run
        self.logs = logs
        self._serving = engine
        self.pool = self.run(self._serving.__aenter__())

    def detail(self, job: Job) -> Outcome:
        return self.run(detail(self.pool, job))

    def close(self) -> None:
        self.run(self._serving.__aexit__(None, None, None))


@pytest.fixture(scope="module", params=["processes", pytest.param("ray", marks=pytest.mark.ray)])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """Each kind of engine: whatever runs the work, the answers are the same."""
    limits = {"worker_concurrency": 2, "queue_size": 1}
    with contextlib.ExitStack() as stack:
        if request.param == "processes":
            engine = serving(**limits)
        else:
            given = {"devices": "cpu", "profile": "tiny", **limits}
            handle = stack.enter_context(replicas(loader(worker_loads.inverter), **given))
            engine = serving_by_ray(handle, **limits)
        runner = stack.enter_context(asyncio.Runner())
        shared = Shared(runner, engine, logs=request.param == "processes")
        stack.callback(shared.close)
        yield shared


def test_one_picture_per_sample_in_the_order_of_the_seeds(shared: Shared) -> None:
    outcome = shared.detail(job(samples=3, seed=7))
    assert len(outcome.pictures) == 3
    for i, picture in enumerate(outcome.pictures):
        np.testing.assert_array_equal(pixels(picture), 255 - SMALL + np.uint8(7 + i))
    assert (outcome.width_px, outcome.height_px) == (5, 4)
    assert (outcome.faces[0].x0, outcome.faces[0].score, outcome.report.unchanged) == (1, 0.5, 1)
    assert {"decode", "encode", "done"} <= outcome.seconds.keys()


@pytest.mark.parametrize(
    ("image_format", "magic"), [("jpeg", b"\xff\xd8"), ("png", b"\x89PNG"), ("webp", b"RIFF")]
)
def test_the_format_asked_for(shared: Shared, image_format: str, magic: bytes) -> None:
    assert shared.detail(job(image_format=image_format)).pictures[0].startswith(magic)


def test_alpha_survives(shared: Shared) -> None:
    alpha = np.arange(20, dtype=np.uint8).reshape(4, 5)
    outcome = shared.detail(job(picture=png(np.dstack([SMALL, alpha]))))
    np.testing.assert_array_equal(pixels(outcome.pictures[0])[:, :, 3], alpha)


def test_the_resolution_is_kept_and_exif_as_the_settings_say(shared: Shared) -> None:
    exif = PIL.Image.Exif()
    exif[Base.Make] = "Nikon"
    picture = png(SMALL, dpi=(300, 300), exif=exif)

    async def with_exif() -> Outcome:
        async with serving(keep_exif=True) as pool:
            return await detail(pool, job(picture=picture))

    outcomes = shared.detail(job(picture=picture)), asyncio.run(with_exif())
    for outcome, kept in zip(outcomes, (False, True), strict=True):
        with PIL.Image.open(io.BytesIO(outcome.pictures[0])) as opened:
            assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.02)
            assert (opened.getexif().get(Base.Make) == "Nikon") is kept


def test_a_picture_of_many_megabytes_crosses_both_ways(shared: Shared) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1000, 1200, 3), dtype=np.uint8)
    outcome = shared.detail(job(picture=png(noise), samples=2))
    assert sum(map(len, outcome.pictures)) > 7_000_000
    np.testing.assert_array_equal(pixels(outcome.pictures[0]), 255 - noise)


def test_progress_is_told_up_to_the_last_step(shared: Shared) -> None:
    heard: list[Progress] = []
    shared.run(detail(shared.pool, job("steps=500"), heard.append))
    assert [progress.stage for progress in heard[:3]] == ["detecting", "found", "detail"]
    assert heard[-1] == worker_loads.step(500, 500)
    assert len(heard) < 250, "not every step is worth a message"


def test_a_listener_that_raises_harms_nobody(shared: Shared) -> None:
    async def listen() -> Outcome:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        return await detail(shared.pool, job("steps=1"), lambda *_: 1 / 0)

    pid = shared.run(worker_pid(shared.pool))
    assert shared.run(listen()).seconds["pid"] == pid


def test_a_step_told_after_the_answer_harms_nobody(shared: Shared) -> None:
    async def late() -> int:
        await detail(shared.pool, job("report_late"))
        await asyncio.sleep(0.2)
        return await worker_pid(shared.pool)

    pid = shared.run(worker_pid(shared.pool))
    assert shared.run(late()) == pid


def test_a_failure_keeps_its_cause_off_the_wire_and_puts_it_in_the_log(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    pid = shared.run(worker_pid(shared.pool))
    failing = job("fail=/root/x")
    with pytest.raises(WorkFailed) as caught:
        shared.detail(failing)
    assert str(caught.value) == ""
    assert caught.value.__cause__ is None
    assert shared.run(worker_pid(shared.pool)) == pid
    if not shared.logs:
        return
    record = next(r for r in caplog.records if r.name == "server.engine.worker")
    assert failing.id in record.getMessage()
    assert "Traceback" in record.getMessage()
    assert record.getMessage().endswith("RuntimeError: a secret path: /root/x")
    assert record.levelname == "ERROR"


def test_too_little_memory_is_said_and_the_worker_lives(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    pid = shared.run(worker_pid(shared.pool))
    with pytest.raises(NoMemory):
        shared.detail(job("exceed_memory=no row of the UNet fits"))
    if shared.logs:
        record = next(r for r in caplog.records if r.name == "server.engine.worker")
        assert "no row of the UNet fits. FACE_DETAILER_MEMORY_MODE" in record.getMessage()
        assert "Traceback" not in record.getMessage()
    with pytest.raises(NoMemory):
        shared.detail(job("exceed_memory_elsewhere=CUDA out of memory"))
    assert shared.run(worker_pid(shared.pool)) == pid


def test_a_job_that_calls_sys_exit_fails_alone(shared: Shared) -> None:
    pid = shared.run(worker_pid(shared.pool))
    with pytest.raises(WorkFailed):
        shared.detail(job("leave=0"))
    assert shared.run(worker_pid(shared.pool)) == pid


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (job("refuse=large"), TooLarge, "large"),
        (job("refuse=broken"), BadImage, "broken"),
        (job(picture=b"GIF89a"), BadImage, "the file is broken"),
        (job(picture=png(np.zeros((1, 8193, 3), np.uint8))), TooLarge, "8192 pixels a side"),
    ],
)
def test_a_picture_found_bad_after_all(
    shared: Shared, given: Job, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        shared.detail(given)


def test_two_at_a_time_one_waits_and_the_next_is_refused(shared: Shared, tmp_path: Path) -> None:
    async def crowd() -> list[Outcome]:
        tasks = [
            asyncio.create_task(detail(shared.pool, job(f"wait_for={tmp_path / str(i)}")))
            for i in range(3)
        ]
        await until(lambda: begun(tmp_path / "0") and begun(tmp_path / "1"))
        with pytest.raises(Busy):
            await detail(shared.pool, job())
        assert not begun(tmp_path / "2")
        (tmp_path / "1").touch()
        await tasks[1]
        await until(lambda: begun(tmp_path / "2"))
        (tmp_path / "0").touch()
        (tmp_path / "2").touch()
        return await asyncio.gather(*tasks)

    outcomes = shared.run(crowd())
    assert {outcome.seconds["most"] for outcome in outcomes} == {2}


def test_one_job_that_two_servers_do_at_a_time_harms_nobody(shared: Shared, tmp_path: Path) -> None:
    """On a cluster, by one that has lost it and does not know, and by the next."""
    first, last = tmp_path / "first", tmp_path / "last"
    given = job(f"wait_for={first}")
    twin = dataclasses.replace(job(f"wait_for={last}", seed=1), id=given.id)

    async def both() -> int:
        tasks = [asyncio.create_task(detail(shared.pool, each)) for each in (given, twin)]
        await until(lambda: begun(first) and begun(last))
        for task, file in zip(tasks, (first, last), strict=True):
            file.touch()
            await task
        shades = [pixels(task.result().pictures[0]) for task in tasks]
        np.testing.assert_array_equal(shades[1] - shades[0], 1)
        return await worker_pid(shared.pool)

    pid = shared.run(worker_pid(shared.pool))
    assert shared.run(both()) == pid


def test_cancelling_frees_the_place_of_a_waiting_job_and_stops_a_running_one(
    shared: Shared, tmp_path: Path
) -> None:
    files = [tmp_path / str(i) for i in range(4)]

    async def crowd() -> None:
        tasks = [asyncio.create_task(detail(shared.pool, job(f"wait_for={f}"))) for f in files[:3]]
        await until(lambda: begun(files[0]) and begun(files[1]))
        tasks[2].cancel()
        await cancelled(tasks[2])
        tasks.append(asyncio.create_task(detail(shared.pool, job(f"wait_for={files[3]}"))))
        tasks[0].cancel()
        await cancelled(tasks[0])
        await until(lambda: stopped(files[0]) and begun(files[3]))
        files[1].touch()
        files[3].touch()
        await asyncio.gather(tasks[1], tasks[3])
        assert not begun(files[2])
        assert not stopped(files[1])

    async def cancelled(task: asyncio.Task[Outcome]) -> None:
        with pytest.raises(asyncio.CancelledError):
            await task

    shared.run(crowd())


def test_cancelling_at_the_moment_of_the_answer_leaves_the_worker_whole(shared: Shared) -> None:
    async def race() -> int:
        for delay_ms in range(24):
            task = asyncio.create_task(detail(shared.pool, job()))
            await asyncio.sleep(delay_ms / 1000)
            task.cancel()
            await asyncio.wait([task])
        # Those that were cancelled last may still have their places.
        await detail(shared.pool, job())
        await asyncio.gather(detail(shared.pool, job()), detail(shared.pool, job()))
        return await worker_pid(shared.pool)

    pid = shared.run(worker_pid(shared.pool))
    assert shared.run(race()) == pid


def test_the_deadline_answers_waiting_and_running_jobs_and_stops_the_latter(tmp_path: Path) -> None:
    async def late() -> None:
        async with serving(request_timeout_s=3.0, worker_concurrency=1) as pool:
            jobs = [job(f"wait_for={tmp_path / name}") for name in ("running", "waiting")]
            answers = await asyncio.gather(
                *(detail(pool, each) for each in jobs), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [TimedOut, TimedOut]
            await until(lambda: stopped(tmp_path / "running"))
            assert not begun(tmp_path / "waiting")
            assert (await detail(pool, job())).width_px == 5

    asyncio.run(late())


@pytest.mark.slow
def test_a_job_that_never_looks_up_costs_its_worker_not_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.engine.workers._STOP_S", 0.5)

    async def stuck() -> None:
        async with serving(request_timeout_s=3.0, worker_concurrency=1) as pool:
            pid = await worker_pid(pool)
            with pytest.raises(TimedOut):
                await detail(pool, job(f"hang={tmp_path / 'x'}"))
            await until(lambda: pool.state is not EngineState.READY)
            await until(lambda: pool.state is EngineState.READY)
            assert await worker_pid(pool) != pid

    asyncio.run(stuck())


def test_the_least_busy_device_is_chosen(tmp_path: Path) -> None:
    async def spread() -> None:
        async with serving(devices=("cpu", "cpu"), worker_concurrency=2) as pool:
            files = [tmp_path / str(i) for i in range(4)]
            tasks = [asyncio.create_task(detail(pool, job(f"wait_for={f}"))) for f in files]
            await until(lambda: all(map(begun, files)))
            for file in files:
                file.touch()
            pids = [(await task).seconds["pid"] for task in tasks]
            assert pids[0] != pids[1]
            assert [pids.count(pid) for pid in set(pids)] == [2, 2]

    asyncio.run(spread())


def test_a_job_before_the_first_worker_is_ready_is_told_so_at_once() -> None:
    async def early() -> None:
        pool = WorkerPool(settings(), load=loader(worker_loads.inverter))
        with pytest.raises(Starting):
            await detail(pool, job())
        await pool.start()
        assert pool.state is EngineState.STARTING
        with pytest.raises(Starting):
            await detail(pool, job())
        await pool.stop()

    asyncio.run(early())


def test_the_server_process_stays_light() -> None:
    check = (
        "import server.engine.workers, sys;"
        "sys.exit(bool({'torch', 'diffusers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
