"""A good call, and what a refusal must look like."""

import base64
import contextlib
import json
import re
import socket
from collections.abc import Iterator, Mapping

import httpx
from http_service import encoded

PICTURE = encoded()
GOOD = {"image": base64.b64encode(PICTURE).decode(), "prompt": "a face", "denoise": 0.4}


def assert_error(reply: httpx.Response, status: int, text: str) -> None:
    expected = '{\n  "error": "' + text.replace('"', '\\"') + '"\n}\n'
    assert (reply.status_code, reply.text) == (status, expected)
    assert reply.headers["content-type"] == "application/json"
    assert re.fullmatch(r"\d+\.\d{1,3}", reply.headers["x-generation-time"])
    assert re.fullmatch(r"\d+\.\d{1,10}", reply.headers["x-remaining-credits"])
    assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["x-request-id"])


@contextlib.contextmanager
def sending(url: str, path: str, key: str, part: bytes, length: int) -> Iterator[socket.socket]:
    """A call with a body in JSON of `length` bytes, of which `part` is sent. Its sender goes away
    when the block ends.
    """
    host, port = url.removeprefix("http://").split(":")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nx-api-key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + part)
        yield connection


@contextlib.contextmanager
def hanging_up(url: str, path: str, key: str, body: Mapping[str, object]) -> Iterator[None]:
    """A call whose sender goes away, without having read anything, when the block ends."""
    content = json.dumps(body).encode()
    with sending(url, path, key, content, len(content)):
        yield
