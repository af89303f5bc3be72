"""Which methods a path answers, and what it says of the others."""

import uuid

import pytest
from http_service import Service
from v2_calls import ended, submit

REQUEST = f"/v2/requests/{uuid.UUID(int=0)}"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/face-detailer", "POST"),
        ("/v1/face-detailer/detect", "OPTIONS, POST"),
        ("/v1/get-user-credits", "GET, HEAD, OPTIONS"),
        ("/v2/face-detailer", "OPTIONS, POST"),
        (REQUEST, "DELETE, GET, HEAD, OPTIONS"),
        (f"{REQUEST}/status", "GET, HEAD, OPTIONS"),
        (f"{REQUEST}/events", "GET, HEAD, OPTIONS"),
        (f"{REQUEST}/cancel", "OPTIONS, POST"),
        ("/v2/results/x/0.jpg", "GET, HEAD, OPTIONS"),
        ("/upload-asset", "OPTIONS, POST"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/ready", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_every_right_one(service: Service, path: str, allowed: str) -> None:
    headers = {"x-api-key": service.new_key()}
    for method in ("PUT", "PATCH"):
        reply = service.client.request(method, path, headers=headers)
        assert (reply.status_code, reply.headers["allow"]) == (405, allowed)
    asked = service.client.options(path, headers=headers)
    assert asked.headers["allow"] == allowed
    assert (asked.status_code, asked.content == b"") == (
        (204, True) if "OPTIONS" in allowed else (405, False)
    )


def test_a_head_is_a_get_without_its_body(service: Service) -> None:
    key = service.new_key("1")
    accepted = submit(service, key).json()
    ended(service, key, submit(service, key))
    for url in (
        accepted["status_url"],
        accepted["response_url"],
        accepted["events_url"],
        "/v1/get-user-credits",
    ):
        head = service.client.head(url, headers={"x-api-key": key})
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["x-remaining-credits"]
    assert head.headers["content-type"] == "application/json"
    stream = service.client.head(accepted["events_url"], headers={"x-api-key": key})
    assert stream.headers["content-type"].startswith("text/event-stream")
    gone = service.client.head(REQUEST, headers={"x-api-key": key})
    assert gone.status_code == 404
