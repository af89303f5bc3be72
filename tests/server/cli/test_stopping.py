"""How the server ends: everybody gets an answer, nobody pays for what was not done, and nothing is
begun any more.
"""

import http.client
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from steered_server import Steered, steered
from waiting import until
from workers_support import begun

GRACE_S = 3.0
pytestmark = pytest.mark.slow
# A machine that is busy; far less than the grace period of a test that waits for its end.
AT_ONCE_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Steered]:
    with steered(tmp_path, shutdown_grace_s=str(GRACE_S), worker_concurrency="1") as server:
        yield server


def waits_for(file: Path) -> str:
    return f"wait_for={file}"


@pytest.mark.parametrize("twice", [False, True])
def test_who_outlasts_the_grace_period_is_told_in_json_and_pays_nothing(
    tmp_path: Path, twice: bool
) -> None:
    grace_s = 600.0 if twice else GRACE_S
    with steered(tmp_path, shutdown_grace_s=str(grace_s), worker_concurrency="1") as server:
        running = server.begin_post(waits_for(tmp_path / "a"))
        until(lambda: begun(tmp_path / "a"))
        waiting = server.begin_post(waits_for(tmp_path / "b"))
        until(lambda: server.rows("SELECT 1 FROM holds") == [(1,), (1,)])
        assert server.process
        if twice:
            server.process.send_signal(signal.SIGINT)
            waiting.wait()
        server.end(signal.SIGINT if twice else signal.SIGTERM)
        for reply in (running.wait(), waiting.wait()):
            assert (reply.status_code, reply.headers["content-type"]) == (503, "application/json")
            assert reply.json() == {"error": "No worker is available"}
            assert {"retry-after", "x-request-id", "x-generation-time"} <= set(reply.headers)
            assert reply.headers["x-remaining-credits"] == "100.0"
        assert not begun(tmp_path / "b")
        assert server.rows("SELECT held_units FROM accounts") == [(0,)]
        assert server.rows("SELECT count(*) FROM holds") == [(0,)]
        assert server.process.returncode == 0
        assert "Traceback" not in server.log


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_idle_connection_keeps_nobody(tmp_path: Path, how: signal.Signals) -> None:
    with steered(tmp_path, shutdown_grace_s="600") as server:
        line = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
        with closing(line):
            line.request("GET", "/health")
            assert line.getresponse().read()
            server.end(how, within_s=AT_ONCE_S)
        assert server.process
        assert server.process.returncode == 0
        assert "Traceback" not in server.log


def test_nor_does_one_whose_answer_came_before_its_body(tmp_path: Path) -> None:
    with steered(tmp_path, shutdown_grace_s="600") as server:
        port = int(server.url.rpartition(":")[2])
        with closing(socket.create_connection(("127.0.0.1", port))) as line:
            line.sendall(
                b"POST /v1/face-detailer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000000\r\n\r\n{"
            )
            assert line.recv(12) == b"HTTP/1.1 401"
            server.end(within_s=AT_ONCE_S)
        assert "Traceback" not in server.log


def test_what_is_done_within_the_grace_period_is_delivered(tmp_path: Path) -> None:
    with steered(tmp_path, shutdown_grace_s="600", worker_concurrency="2") as server:
        running = server.begin_post(waits_for(tmp_path / "a"))
        queued = server.post(waits_for(tmp_path / "b"), "/v2/face-detailer").json()
        until(lambda: begun(tmp_path / "a") and begun(tmp_path / "b"))
        assert server.process
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "Shutting down" in server.log)
        (tmp_path / "a").touch()
        (tmp_path / "b").touch()
        reply = running.wait()
        assert (reply.status_code, reply.headers["x-remaining-credits"]) == (200, "99.99")
        server.process.communicate(timeout=60)
        assert server.rows("SELECT state FROM jobs") == [("COMPLETED",)]
        assert server.rows("SELECT held_units FROM accounts") == [(0,)]
        server.start()
        assert server.get(f"/v2/requests/{queued['request_id']}").status_code == 200


def test_the_queue_begins_nothing_more_and_goes_on_after_the_next_start(server: Steered) -> None:
    files = [server.folder / name for name in ("a", "b")]
    first, second = (
        server.post(waits_for(file), "/v2/face-detailer").json()["request_id"] for file in files
    )
    until(lambda: begun(files[0]))
    lines: list[str] = []

    def follow() -> None:
        path = f"{server.url}/v2/requests/{first}/events"
        with server.client.stream("GET", path, headers={"x-api-key": server.key}) as stream:
            lines.extend(stream.iter_lines())
        lines.append("the end")

    follower = threading.Thread(target=follow)
    follower.start()
    until(lambda: "event: processing" in lines)
    assert server.process
    server.process.send_signal(signal.SIGTERM)
    # The stream ends as HTTP wants it; its client comes back to the next server.
    follower.join(AT_ONCE_S)
    assert lines[-1] == "the end"
    server.process.communicate(timeout=60)
    assert not begun(files[1])
    assert server.rows("SELECT DISTINCT state, owner FROM jobs") == [("QUEUED", None)]
    assert "Traceback" not in server.log

    for file in files:
        file.touch()
    server.start()
    server.until_ready()
    for request_id in (first, second):
        path = f"/v2/requests/{request_id}/status"
        until(lambda path=path: server.get(path).json()["status"] == "COMPLETED")
    assert server.credits() == Decimal("99.98")


def test_a_terminal_that_is_closed_under_nohup_changes_nothing(tmp_path: Path) -> None:
    server = Steered(tmp_path, {})
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server.start()
    finally:
        signal.signal(signal.SIGHUP, ignored)
    try:
        server.until_ready()
        assert server.process
        server.process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        assert server.get("/health").status_code == 200
    finally:
        server.end()
        server.client.close()
