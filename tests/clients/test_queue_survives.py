"""The queue when server or worker are killed, at each state of a job: no request is lost, none is
paid twice.
"""

import base64
import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import PIL.Image
import pytest
from server_program import PROGRAM, run_server
from webhook_receiver import receiving

DAMAGED = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"
DEADLINE_S = 300.0
LONG = {"samples": 2, "upscale": 1}
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


class Operator:
    """Starts, kills and restarts one server on one data folder, and calls it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environment = environment | {"FACE_DETAILER_DATA_DIR": str(self.data)}
        self.key = self.command("keys", "create", "--credits", "1").split()[-1]
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.client = httpx.Client(trust_env=False, timeout=30)

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [PROGRAM, *words], env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def start(self) -> None:
        self.process, self.url = run_server(self.folder, self.environment)

    def end(self, how: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(how)
        self.process.communicate(timeout=60)

    def kill_worker(self) -> None:
        """The server's only child in a session of its own."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (worker,) = children.read_text().split()
        os.kill(int(worker), signal.SIGKILL)

    def submit(self, picture: bytes, **fields: object) -> str:
        body = {"image": base64.b64encode(picture).decode(), "prompt": "", "denoise": 0.4}
        reply = self.call("POST", "/v2/face-detailer", json=body | fields)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["request_id"])

    def state(self, request_id: str) -> str:
        return str(self.call("GET", f"/v2/requests/{request_id}/status").json()["status"])

    def until(self, request_id: str, *states: str) -> None:
        self.wait_for(lambda: self.state(request_id) in states)

    def until_event(self, request_id: str, name: str) -> None:
        """Follow the request until this happens to it."""
        url = f"{self.url}/v2/requests/{request_id}/events"
        headers = {"x-api-key": self.key}
        with self.client.stream("GET", url, headers=headers, timeout=DEADLINE_S) as reply:
            assert any(line == f"event: {name}" for line in reply.iter_lines())

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (self.folder / "log.txt").read_text()
            time.sleep(0.2)

    def picture(self, request_id: str) -> PIL.Image.Image:
        output = self.call("GET", f"/v2/requests/{request_id}").json()["output"]
        path = output.removeprefix(output.partition("/v2/")[0])
        return PIL.Image.open(io.BytesIO(self.call("GET", path).content))

    def credits(self) -> float:
        return float(self.call("GET", "/v1/get-user-credits").json()["credits"])

    def call(self, method: str, path: str, **options: object) -> httpx.Response:
        headers = {"x-api-key": self.key}
        url = f"{self.url}{path}"
        return self.client.request(method, url, headers=headers, **options)

    def assert_balanced(self) -> None:
        """What is left and what was paid is what there was, and nothing is set aside."""
        with contextlib.closing(sqlite3.connect(self.data / "accounts.sqlite3")) as database:
            query = "SELECT balance_units, held_units FROM accounts WHERE NOT unlimited"
            ((balance, held),) = database.execute(query)
            ((booked,),) = database.execute("SELECT sum(units) FROM ledger")
            ((holds,),) = database.execute("SELECT count(*) FROM holds")
        assert (balance, held, holds) == (booked, 0, 0)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("operator"), environment)
    operator.start()
    yield operator
    operator.client.close()
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        operator.end(signal.SIGKILL)


@pytest.fixture
def operator(running: Operator) -> Operator:
    """A running server with a fresh account."""
    running.key = running.command("keys", "create", "--credits", "1").split()[-1]
    with contextlib.closing(sqlite3.connect(running.data / "accounts.sqlite3")) as database:
        # Accounts of earlier tests stay as they are; sums are of the one that is tested.
        database.execute("DELETE FROM jobs")
        database.execute("DELETE FROM ledger WHERE account_id < (SELECT max(id) FROM accounts)")
        database.execute("DELETE FROM api_keys WHERE account_id < (SELECT max(id) FROM accounts)")
        database.execute("DELETE FROM accounts WHERE id < (SELECT max(id) FROM accounts)")
        database.commit()
    return running


Kill = Callable[[Operator], None]


def kill_server(operator: Operator) -> None:
    operator.end(signal.SIGKILL)
    operator.start()


def stop_server(operator: Operator) -> None:
    operator.end(signal.SIGTERM)
    operator.start()


@pytest.mark.parametrize("kill", [kill_server, Operator.kill_worker, stop_server])
def test_whatever_is_killed_each_job_ends_and_is_paid_once(
    operator: Operator, picture: bytes, kill: Kill
) -> None:
    """Jobs that have ended, wait, have begun, look for faces, are in a step, are being stopped."""
    face = DAMAGED.read_bytes()
    # On a server that has just started, it waits until the worker is ready.
    ended = operator.submit(picture)
    operator.until(ended, "COMPLETED")
    cancelled = operator.submit(face, **LONG, seed=1)
    stepping = operator.submit(face, **LONG, seed=2)
    operator.until_event(stepping, "step")
    detecting = operator.submit(face, upscale=1, seed=3)
    operator.until_event(detecting, "detecting")
    begun = operator.submit(face, upscale=1, seed=4)
    operator.until(begun, "PROCESSING", "COMPLETED")
    waiting = [operator.submit(picture, seed=seed) for seed in range(5, 8)]
    stopping = operator.call("DELETE", f"/v2/requests/{cancelled}").json()["status"]
    kill(operator)

    running = [stepping, detecting, begun, *waiting]
    for request_id in running:
        operator.until(request_id, "COMPLETED", "FAILED")
    assert {operator.state(request_id) for request_id in running} == {"COMPLETED"}
    assert operator.picture(stepping).size == operator.picture(begun).size == (512, 512)
    assert operator.picture(ended).size == operator.picture(waiting[0]).size == (128, 96)
    paid = 1 + 2 + 1 + 1 + 3
    if stopping == "COMPLETED":
        paid += 2  # It was too late to stop it.
    else:
        operator.until(cancelled, "FAILED")
        status = operator.call("GET", f"/v2/requests/{cancelled}/status").json()
        assert status["error"] == "Request was cancelled"
    assert operator.credits() == pytest.approx(1 - paid / 100, abs=1e-9)
    operator.assert_balanced()


def test_when_its_results_are_written_and_not_yet_settled(
    operator: Operator, picture: bytes
) -> None:
    operator.until(operator.submit(picture), "COMPLETED")
    results = operator.data / "requests" / "results"
    before = set(results.iterdir())
    request_id = operator.submit(picture, seed=2)
    operator.until_event(request_id, "processing")
    with contextlib.closing(
        sqlite3.connect(operator.data / "accounts.sqlite3", isolation_level=None)
    ) as database:
        # Nobody else can write now: the end of the job has to wait.
        database.execute("BEGIN IMMEDIATE")
        ((state,),) = database.execute(
            "SELECT state FROM jobs WHERE id = ?", (request_id.replace("-", ""),)
        )
        assert state == "PROCESSING"
        operator.wait_for(lambda: _written(results, before))
        operator.end(signal.SIGKILL)
        database.execute("ROLLBACK")
    operator.start()
    operator.until(request_id, "COMPLETED")
    assert operator.picture(request_id).size == (128, 96)
    assert operator.credits() == pytest.approx(0.98, abs=1e-9)
    operator.assert_balanced()


def _written(results: Path, before: set[Path]) -> bool:
    return any(list(folder.glob("0.*")) for folder in set(results.iterdir()) - before)


def test_while_its_webhook_is_owed(operator: Operator, picture: bytes) -> None:
    with receiving() as receiver:
        receiver.refuse = 1
        request_id = operator.submit(picture, webhook_url=receiver.url)
        receiver.wait(1, timeout_s=DEADLINE_S)
        kill_server(operator)
        receiver.wait(2, timeout_s=DEADLINE_S)
        bodies = [json.loads(body) for _, body in receiver.deliveries]
        assert {body["data"]["request_id"] for body in bodies} == {request_id}
        assert len({headers["webhook-id"] for headers, _ in receiver.deliveries}) == 1
    assert operator.credits() == 0.99
    operator.assert_balanced()
