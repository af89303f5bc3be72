"""How long the server keeps an idle connection, as a proxy in front of it sees it."""

import contextlib
import http.client
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_program import environment_with, run_server

HOST = "127.0.0.1"


@contextlib.contextmanager
def connected(folder: Path, **settings: str) -> Iterator[http.client.HTTPConnection]:
    """A connection over which `/health` was asked for once, to the server as it is installed."""
    environment = environment_with(data_dir=str(folder / "data"), devices="cpu", **settings)
    process, url = run_server(folder, environment)
    connection = http.client.HTTPConnection(HOST, int(url.rpartition(":")[2]), timeout=30)
    try:
        ask(connection)
        yield connection
    finally:
        connection.close()
        process.terminate()
        process.communicate(timeout=60)


def ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/health")
    reply = connection.getresponse()
    assert (reply.status, bool(reply.read())) == (200, True)


@pytest.mark.slow
def test_an_idle_connection_is_kept_for_longer_than_by_uvicorn_itself(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        own = connection.sock
        time.sleep(7)
        ask(connection)
        assert connection.sock is own


@pytest.mark.slow
def test_it_is_kept_for_as_long_as_the_setting_says(tmp_path: Path) -> None:
    with connected(tmp_path, keep_alive_s="12") as connection:
        started = time.monotonic()
        assert connection.sock.recv(1) == b""
        assert 8 < time.monotonic() - started < 30
