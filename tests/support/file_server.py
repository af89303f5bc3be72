"""A web server on loopback that hands out files, and misbehaves as it is told."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALL_S = 20.0


@dataclass
class FileServer:
    """`behaviours`: per path, what the next answers do; none left: the file, whole or by range.

    "cut N": N bytes, then the end, though more were announced. "stall N": N bytes, then nothing.
    "short N": N bytes, with no length announced. "whole": as if ranges were unknown. "corrupt":
    one bit wrong. "shifted": another range than asked for. "redirect PATH". "hold": not before
    `released`. A number: that status. "429 S": with Retry-After. "limited S": 429 with the hub's
    RateLimit.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    behaviours: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    sent: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of every request for a path, in order."""
        return [asked for requested, asked in self.requests if requested == path]

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        state = self.server.state
        path = self.path
        state.requests.append((path, self.headers["Range"]))
        state.authorizations.append(self.headers["Authorization"])
        plan = state.behaviours.get(path, [])
        word, _, argument = (plan.pop(0) if plan else "plain 0").partition(" ")
        if word.isdecimal():
            self._status(int(word), {"Retry-After": argument} if argument else {})
        elif word == "limited":
            self._status(429, {"RateLimit": f'"resolvers";r=0;t={argument}'})
        elif word == "redirect":
            self.send_response(302)
            self.send_header("Location", argument)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path not in state.files:
            self._status(404, {})
        else:
            self._file(state.files[path], word, float(argument or 0))

    def _status(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, content: bytes, word: str, argument: float) -> None:
        total = len(content)
        if word == "hold":
            self.server.state.released.wait(STALL_S)
        if word == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(match[1]) if match and word != "whole" else 0
        if start >= total:
            self._status(416, {})
            return
        if word == "shifted":
            start += 1
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if word == "short":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        body = content[start:]
        if word in ("cut", "stall", "short"):
            body = body[: int(argument)]
            self.close_connection = True
        # Counted before: whoever has it all may look at once.
        self.server.state.sent += len(body)
        self.wfile.write(body)
        self.wfile.flush()
        if word == "stall":
            self.server.state.released.wait(STALL_S)


class _Server(ThreadingHTTPServer):
    state: FileServer
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is part of the test."""


@contextlib.contextmanager
def serving_files() -> Iterator[FileServer]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.state = FileServer(url=f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.state
        finally:
            server.state.released.set()
            server.shutdown()
            thread.join()
