"""A relay between browser and server: what is slow, lost or away on the way is so here."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SUBMIT = "/v2/face-detailer"
_RESULTS = "/v2/results/"
_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server", "accept-encoding"}
_PIECE_BYTES = 65536
_PATIENCE_S = 60.0


def _open() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class Relay:
    """Passes calls on, and keeps the bodies of those that have one.

    `reads` and `answers`: cleared, bodies of requests for the queue are not read, and their answers
    not passed on, until they are set. `is_away`: every connection ends without an answer. `breaks`:
    those that fetch a result end in its middle.
    """

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    reads: threading.Event = field(default_factory=_open)
    answers: threading.Event = field(default_factory=_open)
    accepted: threading.Event = field(default_factory=threading.Event)
    is_away: bool = False
    breaks: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, relay: Relay, host: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.relay, self.host = relay, host


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(_PIECE_BYTES)
        # One request a connection; whatever its method.
        self.close_connection = True
        if self.raw_requestline and self.parse_request():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._pass_on()

    def _pass_on(self) -> None:
        relay, is_submit = self.server.relay, self.path == _SUBMIT
        if is_submit:
            relay.reads.wait(_PATIENCE_S)
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if relay.is_away or len(body) < length:
            return
        if length:
            relay.bodies.append(body)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        connection = http.client.HTTPConnection(self.server.host, timeout=_PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, headers)
            with connection.getresponse() as reply:
                if is_submit:
                    relay.keys.append(self.headers["idempotency-key"])
                    relay.accepted.set()
                    relay.answers.wait(_PATIENCE_S)
                if not relay.is_away:
                    self._answer(reply)

    def _answer(self, reply: http.client.HTTPResponse) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        breaks = self.server.relay.breaks and self.path.startswith(_RESULTS)
        while (piece := reply.read1(_PIECE_BYTES)) and not self.server.relay.is_away:
            self.wfile.write(piece[: len(piece) // 2] if breaks else piece)
            if breaks:
                return

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def relaying(server_url: str) -> Iterator[Relay]:
    """A relay in front of the server, on a port of its own."""
    relay = Relay()
    with _Server(relay, urlsplit(server_url).netloc) as server:
        relay.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield relay
        finally:
            relay.reads.set()
            relay.answers.set()
            server.shutdown()
            thread.join()
