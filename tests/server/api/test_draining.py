"""Refusals that come while the body is still being sent, as real clients see them."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import requests
from http_service import Service, running

from server.settings import Settings

Answer = tuple[int, str]
JSON = "application/json"
PATH = "/v1/face-detailer"
NODE = """
const [url, key, kind, size] = process.argv.slice(1);
fetch(url, {method: "POST", body: Buffer.alloc(Number(size), "x"),
            headers: {"x-api-key": key, "content-type": kind}})
  .then(async reply => console.log(JSON.stringify([reply.status, (await reply.json()).error])));
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server that takes bodies of 1 MiB."""
    folder = tmp_path_factory.mktemp("data")
    with running(Settings(data_dir=folder, max_body_bytes=2**20)) as service:
        yield service


def by_urllib(url: str, key: str, kind: str, body: bytes) -> Answer:
    headers = {"x-api-key": key, "content-type": kind}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(urllib.request.Request(url, body, headers), timeout=30)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]
    pytest.fail("it was not refused")


def by_requests(url: str, key: str, kind: str, body: bytes) -> Answer:
    headers = {"x-api-key": key, "content-type": kind}
    with requests.Session() as session:
        session.trust_env = False
        reply = session.post(url, body, headers=headers, timeout=30)
    return reply.status_code, reply.json()["error"]


def by_httpx(url: str, key: str, kind: str, body: bytes) -> Answer:
    headers = {"x-api-key": key, "content-type": kind}
    reply = httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False)
    return reply.status_code, reply.json()["error"]


def by_chunks(url: str, key: str, kind: str, body: bytes) -> Answer:
    headers = {"x-api-key": key, "content-type": kind}
    chunks = (body[begin : begin + 100_000] for begin in range(0, len(body), 100_000))
    reply = httpx.post(url, content=chunks, headers=headers, timeout=30, trust_env=False)
    return reply.status_code, reply.json()["error"]


def by_curl(url: str, key: str, kind: str, body: bytes) -> Answer:
    command = ["curl", "-sS", "--noproxy", "*", "-w", "%{http_code}", "-H", f"x-api-key: {key}"]
    command += ["-H", f"content-type: {kind}", "--data-binary", "@-", url]
    done = subprocess.run(command, input=body, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return int(done.stdout[-3:]), json.loads(done.stdout[:-3])["error"]


def by_node(url: str, key: str, kind: str, body: bytes) -> Answer:
    command = ["node", "-e", NODE, url, key, kind, str(len(body))]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    status, error = json.loads(done.stdout)
    return status, error


CLIENTS: dict[str, Callable[[str, str, str, bytes], Answer]] = {
    "urllib": by_urllib,
    "requests": by_requests,
    "httpx": by_httpx,
    "chunks": by_chunks,
    "curl": by_curl,
    "node": by_node,
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "size", [500_000, 8_000_000, pytest.param(60_000_000, marks=pytest.mark.slow)]
)
def test_every_client_reads_why_its_large_body_is_refused(
    small: Service, client: str, size: int
) -> None:
    if client in ("curl", "node") and shutil.which(client) is None:
        pytest.skip(f"{client} is not installed")
    key, poor = small.new_key(), small.new_key("0")
    cases = [
        (PATH, "SG_wrong", JSON, 401, "Unauthorized. API key is invalid or may have expired"),
        ("/nowhere", key, JSON, 404, "The requested URL does not exist"),
        (PATH, key, "text/plain", 406, "Invalid content type"),
        (PATH, poor, JSON, 406, "Not enough credits"),
    ]
    if size > 2**20:
        cases += [(PATH, key, JSON, 413, "Invalid image: the request is larger than 1 MiB")]
    for path, sent_key, kind, status, error in cases:
        answer = CLIENTS[client](f"{small.url}{path}", sent_key, kind, b"x" * size)
        assert answer == (status, error)


def test_the_connection_of_a_short_body_is_used_again(
    small: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Head and body are sent one after the other, on a busy machine with a pause.
    monkeypatch.setattr("server.api.draining._SHORT_WAIT_S", 30)
    for _ in range(3):
        reply = small.client.post(PATH, content=b"x" * 1000, headers={"x-api-key": "SG_wrong"})
        assert reply.status_code == 401
        assert "connection" not in reply.headers


def begun(service: Service, length: int) -> socket.socket:
    """A refused call that has not sent its body yet."""
    host, port = service.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


@pytest.mark.parametrize("length", [1000, 10**6, 10**12])
def test_the_answer_does_not_wait_for_the_body(small: Service, length: int) -> None:
    with begun(small, length) as connection:
        started = time.monotonic()
        reply = connection.recv(65536)
        # And not for a minute, as long as a body may take.
        assert time.monotonic() - started < 15
    assert reply.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in reply.lower()


def test_a_body_without_end_is_not_read_for_ever(small: Service) -> None:
    sent, piece = 0, b"x" * 2**20
    with begun(small, 10**12) as connection, contextlib.suppress(ConnectionError):
        while sent < 2**30:
            connection.sendall(piece)
            sent += len(piece)
    assert 2**26 - 2**20 < sent < 2**27


def test_a_slow_sender_of_a_refused_body_is_left_in_time(tmp_path: Path) -> None:
    with running(Settings(data_dir=tmp_path, body_timeout_s=0.5)) as service:
        started = time.monotonic()
        with begun(service, 10**6) as connection:
            while connection.recv(65536):
                pass
        assert 0.3 < time.monotonic() - started < 15
