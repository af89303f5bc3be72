"""Calls of v2 as a client makes them."""

import base64
import json

import httpx
from http_service import Service, encoded
from waiting import until

ASKED = {"prompt": "a face", "denoise": 0.4}


def submit(service: Service, key: str, **body: object) -> httpx.Response:
    picture = {"image": base64.b64encode(encoded()).decode()}
    return service.client.post(
        "/v2/face-detailer",
        content=json.dumps(picture | ASKED | body),
        headers={"x-api-key": key, "content-type": "application/json"},
    )


def get(service: Service, key: str, url: str) -> httpx.Response:
    return service.client.get(url, headers={"x-api-key": key})


def ended(service: Service, key: str, accepted: httpx.Response) -> httpx.Response:
    """The status of a request once it has ended."""
    replies = []

    def has_ended() -> bool:
        replies.append(get(service, key, accepted.json()["status_url"]))
        return replies[-1].json()["status"] in ("COMPLETED", "FAILED")

    until(has_ended)
    return replies[-1]


def events_of(service: Service, key: str, url: str, **headers: str) -> list[tuple[str, str, str]]:
    """(id, name, data) of every event until the stream ends."""
    found = []
    with service.client.stream("GET", url, headers={"x-api-key": key, **headers}) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["x-accel-buffering"] == "no"
        for block in "".join(reply.iter_text()).replace("\r\n", "\n").split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                found.append((fields["id"], fields["event"], fields["data"]))
    return found
