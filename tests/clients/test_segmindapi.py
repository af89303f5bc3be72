"""PyPI `segmindapi`, unmodified, pointed at this server.

The package has no class for the face detailer and sends a fixed set of fields, never `denoise`.
So a relay on loopback adds what is missing to its requests; the server's replies pass back
untouched, to the byte.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from segmindapi import SAM, Codeformer, SDOutpainting


@dataclass
class Relay:
    """`missing`: fields that are added to each request. `picture`: what a GET is given."""

    url: str
    server_url: str
    picture: bytes
    missing: dict[str, object]

    def forward(self, body: bytes, key: str) -> httpx.Response:
        sent = json.loads(body)
        if "imageUrl" in sent:
            sent["image"] = sent["imageUrl"]
        url = f"{self.server_url}/v1/face-detailer"
        headers = {"x-api-key": key}
        return httpx.post(
            url, json=sent | self.missing, headers=headers, timeout=60, trust_env=False
        )


@pytest.fixture
def relay(server_url: str, picture: bytes) -> Iterator[Relay]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(relay.picture)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            reply = relay.forward(body, self.headers["x-api-key"])
            self.send_response(reply.status_code)
            for name, value in reply.headers.raw:
                self.send_header(name.decode(), value.decode())
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            pass

    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    relay = Relay(f"http://127.0.0.1:{host.server_port}", server_url, picture, {})
    thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield relay
    host.shutdown()
    thread.join()
    host.server_close()


def test_the_class_that_slices_base64_out_of_the_body(relay, new_key, capsys):
    relay.missing = {"prompt": "a face", "denoise": 0.4}
    client = Codeformer(api_key=new_key(1))
    client.url = relay.url
    with client.generate(f"{relay.url}/face.png") as image:
        image.load()
        assert (image.format, image.size) == ("JPEG", (128, 96))
    assert "You have 0.99 credits remaining" in capsys.readouterr().out


def test_the_class_that_reads_the_bodys_bytes(relay, new_key, capsys):
    relay.missing = {"denoise": "0.4", "base64": "false", "num_inference_steps": "20"}
    client = SDOutpainting(api_key=new_key(1))
    client.url = relay.url
    with client.generate(image=f"{relay.url}/face.png", prompt="a face") as image:
        image.load()
        assert (image.format, image.size) == ("JPEG", (128, 96))
    assert "You have 0.99 credits remaining" in capsys.readouterr().out


def test_straight_at_the_server_an_incomplete_call_is_its_400(server_url, relay, new_key):
    client = SAM(api_key=new_key(1))
    client.url = f"{server_url}/v1/face-detailer"
    with pytest.raises(Exception, match=r"^Error: 400$"):
        client.generate(f"{relay.url}/face.png")
