"""A good call, and what a refusal must look like."""

import base64
import re

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
