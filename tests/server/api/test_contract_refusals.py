"""Refused whatever the picture is: keys, paths, credits, limits; and work that fails."""

import http.client
import io
import re
import socket

import httpx
import PIL.Image
import pytest
import requests
from contract_calls import GOOD, assert_error, hanging_up
from waiting import until

from server import errors
from server.types import EngineState


def test_no_key_is_401_before_anything_else(service):
    text = "Missing Authorization or x-api-key in header"
    for method, path in [
        ("POST", "/v1/face-detailer"),
        ("GET", "/v1/face-detailer"),
        ("GET", "/x"),
    ]:
        reply = service.client.request(method, path)
        assert_error(reply, 401, text)
        assert reply.headers["x-remaining-credits"] == "0.0"


@pytest.mark.parametrize("key", ["SG_0000000000000000", "SG_" + "0" * 40, "schlüssel".encode()])
def test_a_bad_key_is_401_before_the_path(service, key):
    for path in ("/v1/face-detailer", "/nowhere"):
        reply = service.client.post(path, json=GOOD, headers={"x-api-key": key})
        assert_error(reply, 401, "Unauthorized. API key is invalid or may have expired")


def test_a_revoked_key_is_401(service):
    key = service.new_key("1")
    service.keys.revoke(key)
    assert_error(
        service.post(key, **GOOD), 401, "Unauthorized. API key is invalid or may have expired"
    )


@pytest.mark.parametrize("path", ["/v1", "/v1/face-detailer/", "/v1/other", "/openapi.yaml"])
def test_an_unknown_path_is_404(service, path):
    headers = {"x-api-key": service.new_key("1")}
    reply = service.client.get(path, headers=headers)
    assert_error(reply, 404, "The requested URL does not exist")
    assert reply.headers["x-remaining-credits"] == "1.0"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_wrong_method_is_the_one_error_in_html(service, method):
    headers = {"x-api-key": service.new_key()}
    reply = service.client.request(method, "/v1/face-detailer", headers=headers)
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.text == (
        "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n"
        "<h1>Method Not Allowed</h1>\n<p>The method is not allowed for the requested URL.</p>\n"
    )


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_406(service, content_type):
    headers = {"x-api-key": service.new_key("0")}
    if content_type:
        headers["content-type"] = content_type
    reply = service.client.post("/v1/face-detailer", content=b"{}", headers=headers)
    assert_error(reply, 406, "Invalid content type")


def test_no_credits_is_406_before_the_parameters(service):
    key = service.new_key("0.0099999999")
    reply = service.post(key, prompt=3)
    assert_error(reply, 406, "Not enough credits")
    assert reply.headers["x-remaining-credits"] == "0.0099999999"


def test_credits_for_one_sample_do_not_pay_two(service):
    key = service.new_key("0.019")
    assert_error(service.post(key, **GOOD | {"samples": 2}), 406, "Not enough credits")
    assert service.engine.jobs == []
    assert service.post(key, **GOOD).headers["x-remaining-credits"] == "0.009"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(serve, chunked):
    with serve(max_body_bytes=2**20) as service:
        body = b'{"image": "' + b"A" * (2 * 2**20) + b'"}'
        content = iter([body[: 2**20], body[2**20 :]]) if chunked else body
        headers = {"x-api-key": service.new_key("1"), "content-type": "application/json"}
        reply = service.client.post("/v1/face-detailer", content=content, headers=headers)
        assert_error(reply, 413, "Invalid image: the request is larger than 1 MiB")
        reply = service.client.post(
            "/v1/face-detailer", files={"image": body}, headers={"x-api-key": headers["x-api-key"]}
        )
        assert_error(reply, 413, "Invalid image: the request is larger than 1 MiB")
        assert service.post(headers["x-api-key"], **GOOD).status_code == 200


def test_a_refusal_reaches_a_sender_who_is_still_writing(service):
    url, body = f"{service.url}/v1/face-detailer", bytes(30 * 2**20)
    with requests.Session() as session:
        session.trust_env = False
        for headers, status in [({}, 401), ({"x-api-key": service.new_key()}, 406)]:
            assert session.post(url, data=body, headers=headers).status_code == status


def test_a_declared_length_over_the_limit_is_answered_before_the_body_comes(service):
    host = httpx.URL(service.url)
    connection = http.client.HTTPConnection(host.host, host.port, timeout=10)
    connection.putrequest("POST", "/v1/face-detailer")
    for name, value in {
        "x-api-key": service.new_key(),
        "content-type": "application/json",
        "content-length": str(2**40),
        "expect": "100-continue",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    assert reply.status == 413
    assert b"the request is larger than 50 MiB" in reply.read()
    connection.close()


def test_a_rate_over_the_limit_is_429(serve):
    with serve(rate_limit_per_minute=2) as service:
        key, other = service.new_key("1"), service.new_key("1")
        assert [service.post(key, **GOOD).status_code for _ in range(2)] == [200, 200]
        reply = service.post(key, prompt=3)
        assert_error(reply, 429, "Rate limit exceeded")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        time_form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
        assert re.fullmatch(time_form, reply.headers["x-rate-limit-reset-at-utc"])
        assert reply.headers["x-remaining-credits"] == "0.98"
        assert service.post(other, **GOOD).status_code == 200


def test_too_many_calls_a_day(serve):
    with serve(rate_limit_per_day=3, rate_limit_per_minute=2) as service:
        key, other = service.new_key(), service.new_key()
        statuses = [service.post(key, **GOOD).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert service.post(other, **GOOD).status_code == 200
    # The next server knows of these two, and not of those that were refused.
    with serve(rate_limit_per_day=3) as service:
        replies = [service.post(key, **GOOD) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 429]
    assert_error(replies[-1], 429, "Rate limit exceeded")
    assert 86_000 < int(replies[-1].headers["retry-after"]) <= 86_400


@pytest.mark.parametrize(
    ("error", "status", "text", "retry_after"),
    [
        (errors.Busy("32 jobs wait"), 429, "Server is busy", "5"),
        (errors.Starting(), 503, "Server is starting", "2"),
        (errors.NoWorker(), 503, "No worker is available", "10"),
        (errors.TimedOut(), 504, "Request timed out", None),
        (errors.WorkFailed("a secret"), 500, "Internal Server Error", None),
        (errors.NoMemory(), 500, "Not enough memory on the device", None),
        (RuntimeError("secret"), 500, "Internal Server Error", None),
    ],
)
def test_what_the_work_raises_is_answered_and_not_charged(
    service, error, status, text, retry_after
):
    key = service.new_key("1")
    service.engine.error = error
    reply = service.post(key, **GOOD)
    assert_error(reply, status, text)
    assert reply.headers.get("retry-after") == retry_after
    assert ("x-rate-limit-reset-at-utc" in reply.headers) == (status == 429)
    assert reply.headers["x-remaining-credits"] == "1.0"
    service.engine.error = None
    assert service.post(key, **GOOD).headers["x-remaining-credits"] == "0.99"


def test_an_unknown_error_leaves_its_traceback_in_the_log(service, caplog):
    service.engine.error = RuntimeError("the cause")
    reply = service.post(service.new_key(), **GOOD)
    assert "RuntimeError: the cause" in caplog.text
    assert reply.headers["x-request-id"] in caplog.text
    caplog.clear()
    service.engine.error = errors.TimedOut()
    with caplog.at_level("INFO", "server"):
        service.post(service.new_key(), **GOOD)
    assert "Traceback" not in caplog.text
    assert len([r for r in caplog.records if r.name.startswith("server")]) == 1


def test_ready_tells_the_engines_state(service):
    service.engine.state = EngineState.STARTING
    reply = service.client.get("/ready")
    assert_error(reply, 503, "Server is starting")
    assert reply.headers["retry-after"] == "2"
    service.engine.state = EngineState.DEAD
    assert_error(service.client.get("/ready"), 503, "No worker is available")
    assert service.client.get("/health").status_code == 200


def test_a_sender_who_goes_away_cancels_the_work_and_pays_nothing(service):
    key = service.new_key("0.01")
    service.engine.dawdle = True
    with hanging_up(service.url, "/v1/face-detailer", key, GOOD):
        until(lambda: service.engine.jobs)
    assert service.engine.cancelled.wait(30)
    service.engine.dawdle = False
    replies = []

    def is_answered() -> bool:
        replies.append(service.post(key, **GOOD))
        return replies[-1].status_code == 200

    # The hold is released in a thread, a moment after the cancel.
    until(is_answered)
    assert replies[-1].headers["x-remaining-credits"] == "0.0"


def test_a_sender_who_goes_away_within_the_body_does_no_harm(service, caplog):
    host = httpx.URL(service.url)
    with socket.create_connection((host.host, host.port), timeout=5) as line:
        line.sendall(
            f"POST /v1/face-detailer HTTP/1.1\r\nHost: x\r\nx-api-key: {service.new_key()}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode()
        )
    assert service.post(service.new_key(), **GOOD).status_code == 200
    assert "Traceback" not in caplog.text


def test_truncated_pictures_of_every_length_are_never_500(service):
    key = service.new_key()
    file = io.BytesIO()
    PIL.Image.effect_mandelbrot((40, 40), (-2, -1.5, 1, 1.5), 50).save(file, "webp")
    for length in range(0, len(file.getvalue()) - 1, max(1, len(file.getvalue()) // 15)):
        image = "data:," + "".join(f"%{byte:02x}" for byte in file.getvalue()[:length])
        assert service.post(key, **GOOD | {"image": image}).status_code == 400
