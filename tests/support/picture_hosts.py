"""Hosts of pictures, good and bad, on addresses of this machine."""

import contextlib
import gzip
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from http_service import encoded

PICTURE = encoded()
CERTIFICATE = Path(__file__).parent / "tls" / "face.test.crt.pem"
KEY = Path(__file__).parent / "tls" / "face.test.key.pem"
LIMIT_BYTES = 200_000


class Site(BaseHTTPRequestHandler):
    """A picture host with habits."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Host"]))
        kind, _, argument = self.path.strip("/").partition("/")
        getattr(self, f"answer_{kind}")(argument)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def answer_face(self, _: str) -> None:
        self.reply(200, PICTURE, Set_Cookie="sender=one")

    def answer_cookie(self, _: str) -> None:
        self.reply(200, self.headers.get("Cookie", "none").encode())

    def answer_to(self, target: str) -> None:
        self.reply(302, Location=target)

    def answer_times(self, count: str) -> None:
        self.reply(302, Location=f"/times/{int(count) - 1}" if count != "1" else "/face")

    def answer_status(self, status: str) -> None:
        self.reply(int(status))

    def answer_declared(self, _: str) -> None:
        self.reply(200, Content_Length=str(10**12))

    def answer_endless(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")

    def answer_slow(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(400):
                self.wfile.write(b"x")
                time.sleep(0.1)

    def answer_packed(self, encoding: str) -> None:
        packers = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}
        body = PICTURE
        for name in encoding.split(","):
            body = packers[name](body) if name in packers else body
        self.reply(200, body, Content_Encoding=encoding)

    def answer_bomb(self, encodings: str) -> None:
        bomb = gzip.compress(gzip_bomb()) if encodings.count("gzip") > 1 else gzip_bomb()
        self.reply(200, bomb, Content_Encoding=encodings)

    def answer_bombto(self, target: str) -> None:
        self.reply(302, gzip_bomb(), Location=f"/{target}", Content_Encoding="gzip")

    def answer_page(self, _: str) -> None:
        self.reply(200, b"<html>no picture</html>", Content_Type="text/html")

    def log_message(self, *_: object) -> None:
        pass


def gzip_bomb() -> bytes:
    """About 1 MB that is inflated to a GiB, and then ends too early."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    zeros = bytes(2**20)
    begin, again = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return begin + again * 1023


@contextlib.contextmanager
def hosting(address: str = "127.0.0.1", tls: bool = False) -> Iterator[ThreadingHTTPServer]:
    kind = type("Host", (ThreadingHTTPServer,), {"address_family": _family(address)})
    host = kind((address, 0), Site)
    host.seen = []
    host.handle_error = lambda *_: None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, KEY)
        host.socket = context.wrap_socket(host.socket, server_side=True)
    thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def url_of(host: ThreadingHTTPServer, path: str, name: str = "127.0.0.1") -> str:
    return f"http://{name}:{host.server_port}{path}"
