"""Who opens a connection and sends nothing, or a letter now and then, does not keep it for ever."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from steered_server import Steered, steered

KEEP_ALIVE_S = 10
HEADERS_S = 2.0
BODY_S = 5.0
# What a busy machine adds.
MORE_S = 3.0
PATH = "/v1/face-detailer"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steered]:
    settings = {"keep_alive_s": KEEP_ALIVE_S, "header_timeout_s": HEADERS_S}
    settings |= {"body_timeout_s": BODY_S}
    texts = {name: str(value) for name, value in settings.items()}
    with steered(tmp_path_factory.mktemp("server"), **texts) as server:
        yield server


@contextlib.contextmanager
def connected(server: Steered) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as line:
        line.settimeout(30)
        yield line


def closed_after(line: socket.socket, sent: bytes, every_s: float = 0.2) -> tuple[float, bytes]:
    """Send a letter now and then; after how many seconds the server closes, and what it says."""
    over = threading.Event()

    def dribble() -> None:
        for i in range(len(sent)):
            with contextlib.suppress(OSError):
                line.sendall(sent[i : i + 1])
            if over.wait(every_s):
                return

    dribbler = threading.Thread(target=dribble)
    started = time.monotonic()
    dribbler.start()
    said = b""
    try:
        with contextlib.suppress(ConnectionResetError):
            while piece := line.recv(65536):
                said += piece
        return time.monotonic() - started, said
    finally:
        over.set()
        dribbler.join()


def ask(line: socket.socket) -> None:
    line.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer(line).startswith(b"HTTP/1.1 200")


def answer(line: socket.socket) -> bytes:
    """One whole answer in JSON."""
    said = b""
    while not said.endswith(b"}\n"):
        said += (piece := line.recv(65536))
        assert piece
    return said


ENDLESS = b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 1000


@pytest.mark.parametrize("used", [False, True], ids=["new", "used before"])
@pytest.mark.parametrize("sent", [ENDLESS, ENDLESS[:1]], ids=["dribbled", "one letter"])
def test_headers_that_do_not_end_are_408_in_time(server: Steered, sent: bytes, used: bool) -> None:
    with connected(server) as line:
        if used:
            ask(line)
        seconds, said = closed_after(line, sent)
    assert HEADERS_S - 0.1 < seconds < HEADERS_S + MORE_S
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in said.lower()
    assert said.endswith(b'{\n  "error": "The request did not arrive within 2 s"\n}\n')


@pytest.mark.parametrize("sent", [b"", b"{", b"{" * 20], ids=["nothing", "a byte", "bytes"])
def test_who_asks_first_and_is_refused_does_not_keep_the_connection(
    server: Steered, sent: bytes
) -> None:
    with connected(server) as line:
        line.sendall(
            b"POST /v1/face-detailer HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
            b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n"
        )
        seconds, said = closed_after(line, sent)
    assert seconds < MORE_S
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in said.lower()


@pytest.mark.parametrize("used", [False, True], ids=["never used", "used before"])
def test_an_idle_connection_is_kept_longer_and_closed_without_a_word(
    server: Steered, used: bool
) -> None:
    with connected(server) as line:
        if used:
            ask(line)
        seconds, said = closed_after(line, b"")
    assert KEEP_ALIVE_S - 1.5 < seconds < KEEP_ALIVE_S + MORE_S
    assert said == b""


def test_headers_that_take_a_moment_are_answered(server: Steered) -> None:
    with connected(server) as line:
        for piece in (b"GET /health HT", b"TP/1.1\r\nHo", b"st: a\r\n\r\n"):
            line.sendall(piece)
            time.sleep(HEADERS_S / 8)
        assert answer(line).startswith(b"HTTP/1.1 200")
        # Nor does the deadline of the first request meet the second.
        time.sleep(HEADERS_S)
        ask(line)


def test_a_body_may_take_longer_than_the_headers(server: Steered) -> None:
    body = b'{"prompt": "", "denoise": 0.4, "image": "nothing"}'
    with connected(server) as line:
        line.sendall(_head(server, len(body)))
        for begin in range(0, len(body), 10):
            time.sleep((HEADERS_S + 1) / 5)
            line.sendall(body[begin : begin + 10])
        said = answer(line)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"Invalid image" in said


def test_and_has_a_deadline_of_its_own(server: Steered) -> None:
    with connected(server) as line:
        line.sendall(_head(server, 1000))
        seconds, said = closed_after(line, b"{" * 1000)
    assert b"The body did not arrive within 5 s" in said
    assert BODY_S - 0.1 < seconds < 2 * BODY_S + MORE_S


def _head(server: Steered, length: int) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nx-api-key: {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
