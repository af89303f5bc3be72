"""A database that is locked, full or stopped, and folders that are full: callers are told to come
back, pictures that are done are delivered, credits are right, and all is well by itself afterwards.

Full is what a limit on the size of this process's files makes of every disk (RLIMIT_FSIZE).
"""

import asyncio
import base64
import contextlib
import io
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest
from accounts_fixtures import Cluster
from file_limits import files_no_longer_than
from http_service import ResizeEngine, Service, encoded, running
from sqlalchemy import select
from v2_calls import ended, get, submit
from waiting import until

from pipeline.progress import OnProgress
from server.accounts.database import ACCOUNTS, JOBS
from server.settings import Settings
from server.types import Job, Outcome

AWAY = "The server's storage is not available"
FULL = "The server's storage is full"
GOOD = {"image": base64.b64encode(encoded()).decode(), "prompt": "", "denoise": 0.4}
DEADLINE_S = 60.0
KIB = 1024


class GatedEngine(ResizeEngine):
    """Works on a job until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    async def run(self, job: Job, on_progress: OnProgress | None = None) -> Outcome:
        self.begun.set()
        while not self.gate.is_set():
            await asyncio.sleep(0.01)
        return await super().run(job, on_progress)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Service]:
    with running(Settings(data_dir=tmp_path), GatedEngine()) as service:
        yield service


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another program keeps SQLite's write lock."""
    file = folder / "accounts.sqlite3"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def assert_come_back(reply: httpx.Response, text: str) -> None:
    assert (reply.status_code, reply.json()) == (503, {"error": text})
    assert 1 <= int(reply.headers["retry-after"]) <= 60


def standing(service: Service) -> tuple[Decimal, int]:
    """The newest account's credits, in hundredths, and what is set aside."""
    query = select(ACCOUNTS.c.balance_units, ACCOUNTS.c.held_units).order_by(-ACCOUNTS.c.id)
    with service.database.connect() as connection:
        balance, held_units = connection.execute(query.limit(1)).one()
    return Decimal(balance) / 10**8, held_units


def is_ready(service: Service) -> bool:
    return service.client.get("/ready").status_code == 200


@contextlib.contextmanager
def posted(service: Service, key: str, **fields: object) -> Iterator[Callable[[], httpx.Response]]:
    """A call whose work has begun, and what waits for its reply."""
    engine, replies = service.engine, []
    assert isinstance(engine, GatedEngine)
    engine.gate.clear()
    engine.begun.clear()

    def call() -> None:
        replies.append(service.post(key, **GOOD | {"base64": False} | fields))

    thread = threading.Thread(target=call)
    thread.start()

    def reply() -> httpx.Response:
        engine.gate.set()
        thread.join(DEADLINE_S)
        return replies[0]

    try:
        assert engine.begun.wait(DEADLINE_S)
        yield reply
    finally:
        engine.gate.set()
        thread.join()


@pytest.mark.slow
def test_while_the_database_is_locked_callers_are_told_to_come_back(
    gated: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = gated.new_key("1")
    with locked(tmp_path):
        began = time.monotonic()
        assert_come_back(gated.post(key, **GOOD), AWAY)
        assert time.monotonic() - began < 20
        # The next ones need not wait to know.
        began = time.monotonic()
        for path in ("/v1/face-detailer", "/v2/face-detailer"):
            assert_come_back(gated.client.post(path, json=GOOD, headers={"x-api-key": key}), AWAY)
        assert time.monotonic() - began < 4
        assert_come_back(gated.client.get("/ready"), AWAY)
        # What only reads goes on.
        assert gated.credits_of(key) == 1.0
        assert gated.client.get("/health").status_code == 200
    until(lambda: is_ready(gated))
    assert gated.post(key, **GOOD).headers["x-remaining-credits"] == "0.99"
    until(lambda: standing(gated) == (99, 0))
    assert "Traceback" not in caplog.text


@pytest.mark.slow
def test_a_picture_that_is_done_while_the_database_is_locked_is_delivered_and_paid(
    gated: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = gated.new_key("1")
    with posted(gated, key, samples=2) as reply:
        with locked(tmp_path):
            answer = reply()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert (answer.headers["x-cost"], answer.headers["x-remaining-credits"]) == ("0.02", "0.98")
    until(lambda: standing(gated) == (98, 0))
    assert "Traceback" not in caplog.text


@pytest.mark.slow
def test_a_queued_request_that_is_done_while_the_database_is_locked_is_done_once(
    gated: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, engine = gated.new_key("1"), gated.engine
    assert isinstance(engine, GatedEngine)
    engine.gate.clear()
    accepted = submit(gated, key)
    assert engine.begun.wait(DEADLINE_S)
    with locked(tmp_path):
        engine.gate.set()
        until(lambda: list((tmp_path / "requests" / "results").glob("*/0.jpg")))
        time.sleep(7)
        assert get(gated, key, accepted.json()["status_url"]).json()["status"] == "PROCESSING"
    assert ended(gated, key, accepted).json()["status"] == "COMPLETED"
    assert len(engine.jobs) == 1
    assert standing(gated) == (99, 0)
    assert "Traceback" not in caplog.text


@pytest.mark.slow
def test_a_full_disk_under_the_database_leaves_no_hold(
    gated: Service, caplog: pytest.LogCaptureFixture
) -> None:
    key = gated.new_key("1")
    with posted(gated, key) as reply, files_no_longer_than(4 * KIB):
        answer = reply()
        assert (answer.status_code, answer.headers["x-remaining-credits"]) == (200, "0.99")
        refused = gated.post(key, **GOOD)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert gated.client.get("/ready").status_code == 503
        assert gated.credits_of(key) == 1.0
    until(lambda: standing(gated) == (99, 0))
    until(lambda: is_ready(gated))
    assert gated.post(key, **GOOD).status_code == 200
    with gated.database.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert "Traceback" not in caplog.text


def noise() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_a_full_folder_refuses_pictures_until_there_is_room(
    gated: Service, caplog: pytest.LogCaptureFixture
) -> None:
    key = gated.new_key("1")
    large = base64.b64encode(noise()).decode()
    with files_no_longer_than(512 * KIB):
        assert_come_back(submit(gated, key, image=large), FULL)
        upload = {"data_urls": [f"data:image/png;base64,{large}"]}
        headers = {"x-api-key": key}
        assert_come_back(gated.client.post("/upload-asset", json=upload, headers=headers), FULL)
    assert is_ready(gated)
    assert ended(gated, key, submit(gated, key, image=large)).json()["status"] == "COMPLETED"
    assert standing(gated) == (99, 0)
    assert "Traceback" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("in_time", [True, False])
def test_a_result_waits_for_room_and_is_free_if_there_is_none(
    gated: Service, monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    monkeypatch.setattr("server.api.working._ROOM_S", DEADLINE_S if in_time else 1.0)
    key, engine = gated.new_key("1"), gated.engine
    assert isinstance(engine, GatedEngine)
    engine.gate.clear()
    image = base64.b64encode(noise()).decode()
    accepted = submit(gated, key, image=image, image_format="png", upscale=1)
    assert engine.begun.wait(DEADLINE_S)
    with files_no_longer_than(512 * KIB):
        engine.gate.set()
        until(lambda: gated.client.get("/ready").status_code == 200 and engine.jobs)
        time.sleep(3)
        if not in_time:
            status = ended(gated, key, accepted).json()
            assert (status["status"], status["error"]) == ("FAILED", FULL)
            assert standing(gated) == (100, 0)
            return
        assert get(gated, key, accepted.json()["status_url"]).json()["status"] == "PROCESSING"
    assert ended(gated, key, accepted).json()["status"] == "COMPLETED"
    assert len(engine.jobs) == 1
    assert standing(gated) == (99, 0)


def test_a_large_file_part_needs_no_temporary_folder(gated: Service) -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", (1700, 1700)).save(file, "bmp")
    assert len(file.getvalue()) > 8_000_000
    key = gated.new_key("1")
    with files_no_longer_than(512 * KIB):
        reply = gated.client.post(
            "/v1/face-detailer",
            files={"image": ("a.bmp", file.getvalue())},
            data={"prompt": "", "denoise": "0.4", "upscale": "1"},
            headers={"x-api-key": key},
        )
    assert reply.status_code == 200


@pytest.mark.slow
def test_while_postgresql_is_stopped(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, database_url=cluster.address)
    with running(settings, GatedEngine()) as service:
        key = service.new_key("1")
        accepted = submit(service, key)
        assert ended(service, key, accepted).json()["status"] == "COMPLETED"
        with posted(service, key, samples=2) as reply:
            cluster.stop()
            try:
                answer = reply()
                assert (answer.status_code, answer.headers["x-cost"]) == (200, "0.02")
                began = time.monotonic()
                for path in ("/v1/face-detailer", "/v1/face-detailer/detect", "/v2/face-detailer"):
                    headers = {"x-api-key": key}
                    assert_come_back(service.client.post(path, json=GOOD, headers=headers), AWAY)
                assert time.monotonic() - began < 30
                assert_come_back(get(service, key, accepted.json()["status_url"]), AWAY)
                until(lambda: not is_ready(service))
                assert_come_back(service.client.get("/ready"), AWAY)
            finally:
                cluster.start()
        until(lambda: is_ready(service))
        until(lambda: standing(service) == (97, 0))
        assert ended(service, key, submit(service, key)).json()["status"] == "COMPLETED"
        assert standing(service) == (96, 0)
        with service.database.connect() as connection:
            assert set(connection.scalars(select(JOBS.c.attempts))) == {1}
    assert "Traceback" not in caplog.text
