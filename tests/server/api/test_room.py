"""Bodies on their way are bounded in number and bytes; what finds no room is refused unread."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import contract_calls
import httpx
import pytest
from contract_calls import GOOD, assert_error
from http_service import Service

PATHS = [
    "/v1/face-detailer",
    "/v1/face-detailer/detect",
    "/v2/face-detailer",
    "/upload-asset",
]
MIB = 2**20


@contextlib.contextmanager
def sending(service: Service, key: str, path: str, length: int) -> Iterator[socket.socket]:
    """A call whose body never comes to its end."""
    with contract_calls.sending(service.url, path, key, b"{", length) as connection:
        time.sleep(1)
        yield connection


def post(service: Service, key: str, body: bytes, *, declared: bool = True) -> httpx.Response:
    content = body if declared else iter([body])
    headers = {"x-api-key": key, "content-type": "application/json"}
    return service.client.post(PATHS[0], content=content, headers=headers)


def filled(size: int) -> bytes:
    """A good call of about this many bytes."""
    return json.dumps(GOOD | {"more": "x" * size}).encode()


def answered(service: Service, key: str, body: bytes) -> bool:
    """Whether a call is let in soon."""
    for _ in range(50):
        if post(service, key, body).status_code == 200:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.slow
def test_only_so_many_bodies_are_received_at_a_time(serve, path: str) -> None:
    with serve(max_bodies=2) as service:
        key = service.new_key()
        with sending(service, service.new_key(), path, 1000):
            assert post(service, key, filled(0)).status_code == 200
            with sending(service, service.new_key(), path, 1000):
                reply = post(service, key, filled(0))
                assert_error(reply, 429, "Server is busy")
                assert int(reply.headers["retry-after"]) >= 1
            assert answered(service, key, filled(0))


@pytest.mark.parametrize("declared", [True, False])
def test_only_so_many_bytes_are_received_at_a_time(serve, declared: bool) -> None:
    with serve(max_bodies_bytes=2 * MIB) as service:
        key = service.new_key()
        with sending(service, service.new_key(), PATHS[0], MIB):
            assert post(service, key, filled(MIB // 2), declared=declared).status_code == 200
            reply = post(service, key, filled(3 * MIB // 2), declared=declared)
            assert_error(reply, 429, "Server is busy")
        assert answered(service, key, filled(3 * MIB // 2))


@pytest.mark.slow
def test_a_slow_sender_shuts_nobody_else_out(serve) -> None:
    with serve(max_bodies=4, max_bodies_bytes=4 * MIB) as service:
        slow, other = service.new_key(), service.new_key()
        with sending(service, slow, PATHS[0], 3 * MIB // 2):
            assert_error(post(service, slow, filled(MIB)), 429, "Server is busy")
            assert post(service, other, filled(MIB)).status_code == 200
            with sending(service, slow, PATHS[0], 1000):
                assert_error(post(service, slow, filled(0)), 429, "Server is busy")
                assert post(service, other, filled(0)).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_alone_may_be_larger(serve, declared: bool) -> None:
    with serve(max_bodies_bytes=MIB) as service:
        reply = post(service, service.new_key(), filled(3 * MIB), declared=declared)
        assert reply.status_code == 200


def test_room_is_given_back_by_calls_that_fail(serve) -> None:
    with serve(max_bodies=1, max_body_bytes=MIB) as service:
        key = service.new_key()
        for body, status in [(b"{", 400), (b"[]", 400), (filled(2 * MIB), 413)]:
            assert post(service, key, body).status_code == status
        assert post(service, key, filled(0)).status_code == 200
