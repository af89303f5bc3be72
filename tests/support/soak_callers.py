"""The callers of a soak: good and bad ones, some who hang up, send 30 MB, or send or read a little
at a time.
"""

import base64
import contextlib
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from http_service import encoded

PATH = "/v1/face-detailer"
QUEUE_PATH = "/v2/face-detailer"
HOST = "127.0.0.1"
# Longer than a server's own deadline, whose 504 is an answer.
PATIENCE_S = 180.0
LARGE_SIDE_PX = 3200
NOISE_SIDE_PX = 2000
_HEADERS_UNENDED = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Slow: ".encode()
_BOUNDARY = "soak"
_SLOW_PIECES = 15


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: 0 where there was none. Times in seconds from the soak's first call on."""

    kind: str
    status: int
    begun_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, made once for all calls."""

    kind: str
    content: bytes


def as_json(picture: bytes, **fields: object) -> Body:
    content = {"image": base64.b64encode(picture).decode(), "base64": False, **fields}
    return Body("application/json", json.dumps(content).encode())


def as_form(picture: bytes, **fields: object) -> Body:
    parts = [f'"{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(b'"image"; filename="a"\r\nContent-Type: image/bmp\r\n\r\n' + picture)
    begin = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name=".encode()
    whole = b"".join(begin + part + b"\r\n" for part in parts) + f"--{_BOUNDARY}--\r\n".encode()
    return Body(f"multipart/form-data; boundary={_BOUNDARY}", whole)


def large_picture() -> bytes:
    """A BMP of 30 MB, which is read at once."""
    row = (np.arange(LARGE_SIDE_PX * 3, dtype=np.uint32) // 40).astype(np.uint8)
    return bitmap(np.tile(row, (LARGE_SIDE_PX, 1)))


def noise() -> bytes:
    """A BMP of which even a JPEG has more bytes than both kernels take."""
    shape = NOISE_SIDE_PX, NOISE_SIDE_PX * 3
    return bitmap(np.random.default_rng(1).integers(0, 256, shape, np.uint8))


def bitmap(rows: np.ndarray) -> bytes:
    """`rows`: (side, side × 3), the side a multiple of 4."""
    side = len(rows)
    size = 54 + side * side * 3
    head = b"BM" + size.to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    head += b"".join(number.to_bytes(4, "little") for number in (40, side, side))
    head += (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    return head + rows.tobytes()


@dataclass
class Callers:
    """Everybody who calls one server. `good_key` and, for large and slow bodies, `patient_key` pay
    for what is done, `bad_key` for nothing, and `hung_up_key` for what was done before its caller
    was gone, or that its caller does not read.
    """

    port: int
    good_key: str
    patient_key: str
    bad_key: str
    hung_up_key: str
    service_s: float
    answers: list[Answer] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    begun_s: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turns: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = {"prompt": f"linger={self.service_s}", "denoise": 0.4}
        small, large = encoded(), large_picture()
        self._small = [as_json(small, **fields), as_form(small, base64="false", **fields)]
        # JPEG: a PNG of 10 megapixels would keep the worker's processor and not its time.
        large_fields = {**fields, "image_format": "jpeg"}
        self._large = [
            as_form(large, base64="false", **large_fields),
            as_json(large, **large_fields),
        ]
        self._unread = as_form(noise(), base64="false", image_quality=100, **large_fields)
        self._junk = as_form(bytes(len(large)), **fields)
        self._bad = [
            as_json(small, **{**fields, "denoise": 7}),
            as_json(b"no picture", **fields),
            Body("application/json", b"{"),
            Body("text/plain", b"hello"),
        ]

    @property
    def kinds(self) -> dict[str, tuple[Callable[[], int], int]]:
        """What each kind does, for how many in a hundred calls."""
        return {
            "good": (self._good, 60),
            "queued": (self._queue, 10),
            "bad": (self._send_bad, 10),
            "hung up": (self._hang_up, 9),
            "slow": (self._send_slowly, 5),
            "read slowly": (self._read_a_little, 1),
            "30 MB": (self._send_large, 2),
            "30 MB, bad": (self._send_large_bad, 2),
            "headers without end": (self._dribble, 1),
        }

    def call(self, kind: str) -> None:
        """One call of this kind; nothing that happens to it is raised."""
        begun_s = time.monotonic() - self.begun_s
        try:
            status = self.kinds[kind][0]()
        except (OSError, http.client.HTTPException) as error:
            status = 0
            self.faults.append(f"{kind}: no answer: {error!r}")
        self.answers.append(Answer(kind, status, begun_s, time.monotonic() - self.begun_s))

    def _turn(self, kind: str, many: int) -> int:
        """0, 1, … in turn, of each kind of its own."""
        with self._lock:
            turn = self._turns[kind] = self._turns.get(kind, -1) + 1
        return turn % many

    @contextlib.contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        line = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE_S)
        with contextlib.closing(line):
            yield line

    def _send(self, key: str, body: Body, path: str = PATH) -> tuple[int, bytes]:
        with self._connected() as line:
            headers = {"x-api-key": key, "content-type": body.kind}
            line.request("POST", path, body.content, headers)
            return _read(line)

    def _good(self) -> int:
        return self._send(self.good_key, self._small[self._turn("good", 2)])[0]

    def _queue(self) -> int:
        status, said = self._send(self.good_key, self._small[0], QUEUE_PATH)
        if status == 200:
            self.queued.append(json.loads(said)["request_id"])
        return status

    def _send_large(self) -> int:
        return self._send(self.patient_key, self._large[self._turn("30 MB", 2)])[0]

    def _send_bad(self) -> int:
        turn = self._turn("bad", len(self._bad) + 1)
        if turn == len(self._bad):
            return self._send("SG_unknown", self._small[0])[0]
        return self._send(self.bad_key, self._bad[turn])[0]

    def _send_large_bad(self) -> int:
        key = ("SG_unknown", self.bad_key)[self._turn("30 MB, bad", 2)]
        return self._send(key, self._junk)[0]

    def _hang_up(self) -> int:
        """In the middle of the body, or while the answer is waited for."""
        body = (*self._small, self._large[0])[self._turn("hung up", 3)]
        sent = (len(body.content) // 2, len(body.content))[self._turn("hung up where", 2)]
        with self._connected() as line:
            self._begin(line, self.hung_up_key, body)
            with contextlib.suppress(ConnectionError):
                # Refused while it was sent.
                line.send(memoryview(body.content)[:sent])
                time.sleep(self.service_s / 2)
        return 0

    def _send_slowly(self) -> int:
        """A body within some seconds."""
        body = self._small[0]
        size = len(body.content) // _SLOW_PIECES + 1
        with self._connected() as line:
            self._begin(line, self.patient_key, body)
            for begin in range(0, len(body.content), size):
                with contextlib.suppress(ConnectionError):
                    line.send(body.content[begin : begin + size])
                time.sleep(0.2)
            return _read(line)[0]

    def _read_a_little(self) -> int:
        """Of a picture a few bytes now and then, until the server is tired of it."""
        with self._connected() as line:
            self._begin(line, self.hung_up_key, self._unread)
            with contextlib.suppress(ConnectionError):
                line.send(self._unread.content)
            reply = line.getresponse()
            if reply.status != 200:
                return reply.status
            # A reset is read only behind what came before it.
            reset = select.poll()
            reset.register(line.sock, 0)
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                reply.read1(20)
                if reset.poll(200):
                    return reply.status
        raise TimeoutError("a reply is held for who does not read it")

    def _dribble(self) -> int:
        with socket.create_connection((HOST, self.port), timeout=0.5) as line:
            line.sendall(_HEADERS_UNENDED)
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    return int(line.recv(65536).split()[1])
                line.sendall(b"a")
        return 0

    def _begin(self, line: http.client.HTTPConnection, key: str, body: Body) -> None:
        line.putrequest("POST", PATH)
        for name, value in (
            ("x-api-key", key),
            ("content-type", body.kind),
            ("content-length", str(len(body.content))),
        ):
            line.putheader(name, value)
        line.endheaders()


def _read(line: http.client.HTTPConnection) -> tuple[int, bytes]:
    reply = line.getresponse()
    return reply.status, reply.read()
