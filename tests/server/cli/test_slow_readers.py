"""Who asks for a picture and does not read it, or a few bytes now and then, is cut off in time; who
reads slowly gets it all.
"""

import contextlib
import io
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import httpx
import numpy as np
import PIL.Image
import pytest
from steered_server import Steered, steered
from waiting import until

REPLY_S = 2.0
# What a busy machine adds.
MORE_S = 4.0
# More than both kernels hold for a connection, so that the server has a part to hold.
SIDE_PX = 2000
PRICE = Decimal("0.01")
SLOWLY_BYTES_S = 50_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steered]:
    folder = tmp_path_factory.mktemp("server")
    with steered(folder, reply_timeout_s=str(REPLY_S), cost_per_sample=str(PRICE)) as server:
        yield server


@pytest.fixture(scope="module")
def picture() -> bytes:
    """Noise, of which a PNG has 12 MB; as a BMP, which is read and sent at once."""
    noise = np.random.default_rng(1).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    PIL.Image.fromarray(noise).save(file := io.BytesIO(), "BMP")
    return file.getvalue()


def as_form(picture: bytes, **fields: str) -> httpx.Request:
    data = {"prompt": "", "denoise": "0.4", "base64": "false", "image_format": "png", **fields}
    return httpx.Request("POST", "http://a", data=data, files={"image": picture})


@contextlib.contextmanager
def connected(server: Steered) -> Iterator[socket.socket]:
    with socket.socket() as line:
        # So that each piece that is read makes room that the server is told of.
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        line.settimeout(60)
        line.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        yield line


def ask(server: Steered, line: socket.socket, path: str, request: httpx.Request) -> None:
    kept = ("content-type", "content-length")
    head = [f"{name}: {value}" for name, value in request.headers.items() if name in kept]
    lines = [f"{request.method} {path} HTTP/1.1", "Host: a", f"x-api-key: {server.key}", *head]
    line.sendall("\r\n".join([*lines, "", ""]).encode() + request.read())


def path_of(url: str) -> str:
    return httpx.URL(url).raw_path.decode()


def begin_v1(server: Steered, line: socket.socket, picture: bytes) -> None:
    """Ask for the picture, and wait for the first byte of the reply."""
    ask(server, line, "/v1/face-detailer", as_form(picture))
    assert line.recv(1, socket.MSG_PEEK)


def begin_file(server: Steered, line: socket.socket, picture: bytes) -> None:
    """Have it detailed, and ask for its file."""
    request = as_form(picture)
    headers = {"x-api-key": server.key, "content-type": request.headers["content-type"]}
    url = f"{server.url}/v2/face-detailer"
    accepted = server.client.post(url, content=request.read(), headers=headers).json()
    until(lambda: server.get(path_of(accepted["status_url"])).json()["status"] == "COMPLETED")
    file = server.get(path_of(accepted["response_url"])).json()["output"]
    ask(server, line, path_of(file), httpx.Request("GET", "http://a"))
    assert line.recv(1, socket.MSG_PEEK)


def whole_length(line: socket.socket) -> int:
    """Read the head of a reply; how many bytes its body has."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += line.recv(1)
    assert head.startswith(b"HTTP/1.1 200 ")
    fields = head.lower().split(b"content-length:")
    return int(fields[1].split()[0])


def read(line: socket.socket, length: int) -> int:
    """As many bytes, or what there is until the connection ends."""
    got = 0
    while got < length and (piece := line.recv(65536)):
        got += len(piece)
    return got


def reset_after(line: socket.socket) -> float:
    """Wait, without reading, until the server gives the connection up; the seconds that took."""
    waiter = select.poll()
    waiter.register(line, 0)
    started = time.monotonic()
    assert waiter.poll(30_000), "the connection is still open"
    return time.monotonic() - started


def dribble(line: socket.socket, over: threading.Event) -> None:
    """Read some bytes now and then."""
    while not over.wait(0.1):
        with contextlib.suppress(OSError):
            line.recv(20)


@pytest.mark.parametrize("begin", [begin_v1, begin_file], ids=["v1", "a file of v2"])
@pytest.mark.parametrize("reads", [False, True], ids=["stalled", "trickling"])
def test_a_reply_that_is_not_read_is_given_up(
    server: Steered,
    picture: bytes,
    reads: bool,
    begin: Callable[[Steered, socket.socket, bytes], None],
) -> None:
    before = server.credits()
    with connected(server) as line:
        begin(server, line, picture)
        length = whole_length(line)
        over = threading.Event()
        reader = threading.Thread(target=dribble, args=(line, over))
        if reads:
            reader.start()
        try:
            seconds = reset_after(line)
        finally:
            over.set()
            if reads:
                reader.join()
        assert REPLY_S / 2 < seconds < 2 * REPLY_S + MORE_S
        with pytest.raises(ConnectionResetError):
            read(line, length)
    # What was not read was done nevertheless.
    assert before - server.credits() == PRICE
    assert "Traceback" not in server.log


@pytest.mark.parametrize("begin", [begin_v1, begin_file], ids=["v1", "a file of v2"])
def test_a_slow_line_gets_the_whole_reply(
    server: Steered,
    picture: bytes,
    begin: Callable[[Steered, socket.socket, bytes], None],
) -> None:
    with connected(server) as line:
        begin(server, line, picture)
        left = whole_length(line)
        assert left > 10_000_000
        started, got = time.monotonic(), 0
        while (seconds := time.monotonic() - started) < 4 * REPLY_S:
            got += len(line.recv(int(max(1, seconds * SLOWLY_BYTES_S - got))))
            time.sleep(0.05)
        assert got < left / 10
        assert read(line, left - got) == left - got
        # And the connection is as good as new.
        ask(server, line, "/health", httpx.Request("GET", "http://a"))
        assert whole_length(line)


def test_events_that_are_quiet_are_not_stalled(server: Steered) -> None:
    accepted = server.post(f"linger={3 * REPLY_S}", "/v2/face-detailer").json()
    with connected(server) as line:
        ask(server, line, path_of(accepted["events_url"]), httpx.Request("GET", "http://a"))
        said = b""
        while b"event: done" not in said:
            said += (piece := line.recv(65536))
            assert piece, said
