"""Everything that can break does, under load: no request is lost, none is charged twice.

Every caller sends its request again under its `Idempotency-Key` until it is answered, as clients
are told to. So each is one charge, whatever was killed, locked or full meanwhile.
"""

import contextlib
import os
import random
import resource
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from steered_server import PICTURE, Steered, steered
from waiting import until

CALLERS = 6
PRICE_UNITS = 10**8
LATEST_S = 240.0


@dataclass
class Load:
    """Callers on v1 and v2 in turn, until `over`; each call is seen through to its end."""

    server: Steered
    over: threading.Event = field(default_factory=threading.Event)
    answered: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    refused: int = 0

    def run(self, chaos: Callable[[], None]) -> None:
        callers = [threading.Thread(target=self._call, args=(i,)) for i in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            chaos()
        finally:
            self.over.set()
            for caller in callers:
                caller.join(LATEST_S)
        assert not any(caller.is_alive() for caller in callers)

    def _call(self, number: int) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self.over.is_set():
                try:
                    self._v1(client) if number % 2 else self._v2(client)
                except AssertionError as error:
                    self.faults.append(str(error))

    def _v1(self, client: httpx.Client) -> None:
        reply = self._insist(client, "POST", "/v1/face-detailer", uuid.uuid4().hex)
        assert reply.headers["x-cost"] == "0.01"
        self.answered.append("v1")

    def _v2(self, client: httpx.Client) -> None:
        accepted = self._insist(client, "POST", "/v2/face-detailer", uuid.uuid4().hex).json()
        path = f"/v2/requests/{accepted['request_id']}"
        deadline = time.monotonic() + LATEST_S
        while (state := self._insist(client, "GET", f"{path}/status").json())["status"] in (
            "QUEUED",
            "PROCESSING",
        ):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        assert state["status"] == "COMPLETED", state
        result = self._insist(client, "GET", path).json()["output"]
        assert self._insist(client, "GET", httpx.URL(result).path).content
        self.answered.append("v2")

    def _insist(
        self, client: httpx.Client, method: str, path: str, key: str | None = None
    ) -> httpx.Response:
        """Until it is answered; a 500 or a traceback is none."""
        headers = {"x-api-key": self.server.key} | ({"idempotency-key": key} if key else {})
        body = {"image": PICTURE, "prompt": "linger=0.05", "denoise": 0.4, "base64": False}
        deadline = time.monotonic() + LATEST_S
        while True:
            try:
                url = f"{self.server.url}{path}"
                reply = client.request(method, url, json=body if key else None, headers=headers)
            except httpx.TransportError:
                pass
            else:
                if reply.status_code == 200:
                    return reply
                self.refused += 1
                assert reply.status_code in (429, 503, 504), (reply.status_code, reply.text)
                assert reply.headers["content-type"] == "application/json", reply.text
            assert time.monotonic() < deadline, "never answered"
            time.sleep(0.1)


def kill_worker(server: Steered) -> None:
    assert server.process
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    for worker in children.read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(worker), signal.SIGKILL)


def kill_server(server: Steered) -> None:
    server.end(signal.SIGKILL)
    server.start()


def stop_server(server: Steered) -> None:
    server.end(signal.SIGTERM)
    server.start()


def lock_database(server: Steered, for_s: float) -> None:
    file = server.data / "accounts.sqlite3"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(for_s)
        database.execute("ROLLBACK")


def fill_disk(server: Steered, for_s: float) -> None:
    """No file of the server's can grow beyond 32 KiB: RLIMIT_FSIZE, as ENOSPC would have it."""
    assert server.process
    pid, limit = server.process.pid, resource.RLIMIT_FSIZE
    soft, hard = resource.prlimit(pid, limit, (32 * 1024, resource.RLIM_INFINITY))
    time.sleep(for_s)
    resource.prlimit(pid, limit, (soft, hard))


def assert_exact(server: Steered, load: Load) -> None:
    """One charge a call, nothing set aside, the balance is the sum of its entries, no file torn."""
    until(lambda: server.get("/ready").status_code == 200, LATEST_S)
    file = server.data / "accounts.sqlite3"

    def rows(query: str) -> list[tuple[int, ...]]:
        with contextlib.closing(sqlite3.connect(file, timeout=30)) as database:
            return database.execute(query).fetchall()

    until(lambda: rows("SELECT held_units FROM accounts") == [(0,)], LATEST_S)
    calls = len(load.answered)
    ((balance,),) = rows("SELECT balance_units FROM accounts")
    assert load.faults == []
    assert rows("SELECT count(*) FROM ledger WHERE units < 0") == [(calls,)]
    assert balance == 1000 * 10**10 - calls * PRICE_UNITS
    assert rows("SELECT sum(units) FROM ledger") == [(balance,)]
    assert rows("SELECT count(*) FROM holds") == [(0,)]
    assert rows("SELECT DISTINCT state FROM jobs") == [("COMPLETED",)]
    assert rows("PRAGMA integrity_check") == [("ok",)]
    assert {"v1", "v2"} == set(load.answered)
    assert "Traceback" not in server.log
    print(f"{calls} calls answered and charged once each, {load.refused} refusals on the way")


@contextlib.contextmanager
def _server(folder: Path):
    with steered(folder, worker_concurrency="4", request_timeout_s="60") as server:
        server.new_key(1000)
        with contextlib.closing(sqlite3.connect(server.data / "accounts.sqlite3")) as database:
            # The first one is not needed, and sums are of one account.
            for table, column in (("ledger", "account_id"), ("api_keys", "account_id")):
                database.execute(f"DELETE FROM {table} WHERE {column} = 1")
            database.execute("DELETE FROM accounts WHERE id = 1")
            database.commit()
        yield server


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_of_each_fault_costs_nobody_a_request(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        load = Load(server)

        def chaos() -> None:
            for fault in (
                lambda: kill_worker(server),
                lambda: lock_database(server, 6),
                lambda: kill_server(server),
                lambda: fill_disk(server, 2),
                lambda: stop_server(server),
            ):
                done = len(load.answered)
                until(lambda done=done: len(load.answered) > done + 3, LATEST_S)
                fault()

        load.run(chaos)
        assert_exact(server, load)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_faults_upon_faults_for_minutes_cost_nobody_a_request(tmp_path: Path) -> None:
    """Worker killed 15 times, server 5 times; locked, full and stopped in between; in any order."""
    draw = random.Random(1)
    with _server(tmp_path) as server:
        load = Load(server)
        faults: list[Callable[[], None]] = [
            *[lambda: kill_worker(server)] * 15,
            *[lambda: kill_server(server)] * 5,
            *[lambda: lock_database(server, draw.uniform(1, 12))] * 4,
            *[lambda: fill_disk(server, draw.uniform(1, 8))] * 4,
            *[lambda: stop_server(server)] * 2,
        ]
        draw.shuffle(faults)

        def chaos() -> None:
            for fault in faults:
                done = len(load.answered)
                until(lambda done=done: len(load.answered) > done + 6, LATEST_S)
                time.sleep(draw.uniform(0, 2))
                fault()

        load.run(chaos)
        assert_exact(server, load)
