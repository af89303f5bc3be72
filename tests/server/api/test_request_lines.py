"""A line in the log for every request, as the process writes it, and nothing secret in any."""

import io
import json
import logging
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest
from contract_calls import GOOD
from http_service import Service

from server import logs
from server.errors import BadImage, TimedOut
from server.setting_values import LogFormat

Serve = Callable[..., AbstractContextManager[Service]]
Line = dict[str, object]
Lines = Callable[[], list[Line]]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Callable[[LogFormat], io.StringIO]:
    """Let this process log as `serve` does, until the test ends; where it writes to."""

    def configured(log_format: LogFormat) -> io.StringIO:
        root, written = logging.getLogger(), io.StringIO()
        monkeypatch.setattr(root, "handlers", [])
        monkeypatch.setattr(root, "level", root.level)
        logs.configure("info", log_format)
        root.handlers[0].setStream(written)
        return written

    return configured


@pytest.fixture
def json_lines(log: Callable[[LogFormat], io.StringIO]) -> Lines:
    """All that was logged, as the objects of `FACE_DETAILER_LOG_FORMAT=json`."""
    written = log("json")
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


def requests_in(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["logger"] == "server.requests"]


def test_a_call_that_went_well(service: Service, json_lines: Lines) -> None:
    reply = service.post(service.new_key("1"), **GOOD, samples=2)
    (line,) = requests_in(json_lines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert isinstance(line.pop("ms"), int)
    assert isinstance(line.pop("account"), int)
    assert line == {
        "level": "info",
        "logger": "server.requests",
        "message": "request",
        "method": "POST",
        "route": "/v1/face-detailer",
        "status": 200,
        "request": reply.headers["x-request-id"],
        "faces": 1,
        "cost": "0.02",
    }


@pytest.mark.parametrize(
    ("body", "error", "status", "text"),
    [
        ({"denoise": 2}, None, 400, "BadParameter Denoise should be between 0 and 1"),
        ({}, TimedOut(), 504, "TimedOut"),
        ({}, RuntimeError("a secret"), 500, "RuntimeError"),
    ],
)
def test_a_call_that_failed_says_why(
    service: Service,
    json_lines: Lines,
    body: dict[str, object],
    error: Exception | None,
    status: int,
    text: str,
) -> None:
    service.engine.error = error
    reply = service.post(service.new_key(), **{**GOOD, **body})
    lines = json_lines()
    (line,) = requests_in(lines)
    assert (line["status"], str(line["error"]).lower()) == (status, text.lower())
    assert line["request"] == reply.headers["x-request-id"]
    assert "cost" not in line
    tracebacks = [line for line in lines if "exception" in line]
    assert len(tracebacks) == (status == 500)


@pytest.mark.slow
def test_a_sender_who_hung_up(service: Service, json_lines: Lines) -> None:
    service.engine.dawdle = True
    with pytest.raises(httpx.ReadTimeout):
        service.client.post(
            "/v1/face-detailer", json=GOOD, headers={"x-api-key": service.new_key()}, timeout=5
        )
    assert service.engine.cancelled.wait(30)
    service.engine.dawdle = False
    # Its credits are given back first.
    deadline = time.monotonic() + 30
    while not (lines := requests_in(json_lines())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [line["status"] for line in lines] == [499]
    assert lines[0]["error"] == "the sender went away"


def test_a_request_of_the_queue_has_a_line_at_its_end(service: Service, json_lines: Lines) -> None:
    headers = {"x-api-key": service.new_key("1")}
    reply = service.client.post("/v2/face-detailer", json=GOOD, headers=headers)
    service.until_idle()
    lines = [line for line in json_lines() if line["message"] == "stored request"]
    assert len(lines) == 1
    assert lines[0]["request"] == reply.json()["request_id"].replace("-", "")
    assert (lines[0]["end"], lines[0]["faces"], lines[0]["cost"]) == ("done", 1, "0.01")


def test_so_has_one_that_failed(service: Service, json_lines: Lines) -> None:
    service.engine.error = BadImage("the file is broken")
    headers = {"x-api-key": service.new_key("1")}
    service.client.post("/v2/face-detailer", json=GOOD, headers=headers)
    service.until_idle()
    (line,) = (line for line in json_lines() if line["message"] == "stored request")
    assert (line["end"], line["error"]) == ("failed", "BadImage the file is broken")


def test_nothing_secret_is_in_any_line(
    service: Service, log: Callable[[LogFormat], io.StringIO]
) -> None:
    written = log("text")
    key = service.new_key("1")
    headers = {"x-api-key": key}
    reply = service.client.post(
        "/v2/face-detailer?signature=s3cret", json={**GOOD, "prompt": "s3cret"}, headers=headers
    )
    service.until_idle()
    output = service.client.get(
        f"/v2/requests/{reply.json()['request_id']}", headers=headers
    ).json()["output"]
    service.client.get(output, headers={"Range": "bytes=99999999-"})
    service.client.get(f"{output}?token=s3cret", headers={"Range": "odd"})
    service.client.request("S3CRET", "/s3cret%0A%1B[31m", headers=headers)
    signed = "http://127.0.0.1:1/a.jpg?signature=s3cret"
    assert service.post(key, **{**GOOD, "image": signed}).status_code == 400
    said = written.getvalue()
    assert "route=/v2/results/{token}/{name} status=416" in said
    assert 'error="BadImage its URL does not lead to a public address"' in said
    assert "method=other route=other" in said
    for secret in ("s3cret", "S3CRET", key, output.split("/")[-2], GOOD["image"][:40], "\x1b"):
        assert secret not in said


def test_probes_are_told_only_to_who_asks_for_everything(
    service: Service, json_lines: Lines
) -> None:
    for path in ("/health", "/ready"):
        service.client.get(path)
    assert requests_in(json_lines()) == []
