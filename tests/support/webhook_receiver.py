"""A client's server that is told of the end of requests, and refuses as often as it is asked to."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook


class Receiver:
    """`refuse`: how many deliveries are answered 503 first; `pause_s`: how long an answer takes.
    `deliveries`: headers and body.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.refuse = 0
        self.status = 204
        self.pause_s = 0.0
        self.deliveries: list[tuple[dict[str, str], bytes]] = []
        self.came = threading.Condition()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        with self.came:
            self.deliveries.append((headers, body))
            self.came.notify_all()
            if len(self.deliveries) <= self.refuse:
                return 503
            return self.status

    def wait(self, count: int, timeout_s: float = 20.0) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.deliveries) >= count, timeout_s)

    def verified(self, index: int, secret: str) -> Any:
        """A delivery's event, its signature checked by the standard's own library."""
        headers, body = self.deliveries[index]
        Webhook(secret).verify(body, headers)
        return json.loads(body)


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.take(headers, body)
            time.sleep(receiver.pause_s)
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("location", receiver.url + "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
