"""Hosts of pictures that answer with bombs: what they cost the server, and everybody else."""

from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from contract_calls import GOOD
from measured_server import MeasuredServer, measured
from picture_hosts import hosting, url_of

LIMIT_MIB = 8


@pytest.fixture(scope="module")
def host() -> Iterator[ThreadingHTTPServer]:
    with hosting() as host:
        yield host


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredServer]:
    folder = tmp_path_factory.mktemp("data")
    limit = LIMIT_MIB * 2**20
    with measured(folder, fetch_private_addresses=True, fetch_max_bytes=limit) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/bomb/gzip", 413, "the file is larger than 8 MiB"),
        ("/bomb/gzip,gzip", 400, "its URL answered with what cannot be decompressed"),
        ("/bomb/br", 400, "its URL answered with what cannot be decompressed"),
        ("/bombto/status/404", 400, "its URL answered with status 404"),
        ("/endless", 413, "the file is larger than 8 MiB"),
    ],
    ids=["gzip", "gzip-in-gzip", "other", "redirect", "endless"],
)
def test_a_bomb_costs_little_memory_and_holds_nobody_up(
    server: MeasuredServer, host: ThreadingHTTPServer, path: str, status: int, error: str
) -> None:
    body = GOOD | {"image": url_of(host, path)}
    with server.watched() as seen:
        reply = server.client.post("/v1/face-detailer", json=body)
    assert (reply.status_code, reply.json()) == (status, {"error": f"Invalid image: {error}"})
    assert seen.grown_mib < 5 * LIMIT_MIB
    assert max(seen.waits_s) < 5


@pytest.mark.parametrize(
    "encoding", ["identity", "gzip", "x-gzip", "deflate", "gzip,identity", "identity,gzip"]
)
def test_a_compressed_picture_is_read(
    server: MeasuredServer, host: ThreadingHTTPServer, encoding: str
) -> None:
    packed = url_of(host, f"/packed/{encoding}")
    reply = server.client.post("/v1/face-detailer", json=GOOD | {"image": packed})
    assert reply.status_code == 200, reply.text


def test_what_is_not_compressed_as_it_says_is_told(
    server: MeasuredServer, host: ThreadingHTTPServer
) -> None:
    reply = server.client.post(
        "/v1/face-detailer", json=GOOD | {"image": url_of(host, "/packed/GZIP")}
    )
    why = "Invalid image: its URL answered with what cannot be decompressed"
    assert (reply.status_code, reply.json()) == (400, {"error": why})
