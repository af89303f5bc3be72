"""Clients' servers are told of the end of their requests: signed, again if they refuse, and never
inside the server's own network.
"""

import base64
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from http_service import Service, encoded
from sqlalchemy import select, update
from waiting import until
from webhook_receiver import Receiver, receiving

from server.accounts.database import JOBS

ASKED = {"prompt": "a face", "denoise": 0.4, "image": base64.b64encode(encoded()).decode()}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def local(serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A server that may reach this machine, and that tries again soon."""
    monkeypatch.setattr("server.api.webhooks.FIRST_PAUSE_S", 0.05)
    # For how long it waits for jobs that dawdle when it stops.
    monkeypatch.setattr("server.api.runner._LAST_S", 0.5)
    with serve(fetch_private_addresses=True) as service:
        yield service


def submit(service: Service, key: str, **body: object) -> httpx.Response:
    headers = {"x-api-key": key}
    reply = service.client.post("/v2/face-detailer", json=ASKED | body, headers=headers)
    assert reply.status_code == 200
    return reply


def tries_of(service: Service) -> list[int]:
    """How often each webhook that is still owed was tried."""
    owed = select(JOBS.c.webhook_tries).where(JOBS.c.webhook_due_ms.is_not(None))
    with service.database.connect() as connection:
        return list(connection.scalars(owed))


def make_due(service: Service) -> None:
    """No webhook that is owed waits for its next try any more."""
    owed = update(JOBS).where(JOBS.c.webhook_due_ms.is_not(None))
    with service.database.begin() as connection:
        connection.execute(owed.values(webhook_due_ms=0))


def test_the_end_is_told_signed(local: Service, receiver: Receiver) -> None:
    key = local.new_key("1")
    accepted = submit(local, key, webhook_url=f"{receiver.url}/hook")
    receiver.wait(1)
    event = receiver.verified(0, local.keys.secret_of(key)[1])
    assert event["type"] == "request.completed"
    data = event["data"]
    assert data["request_id"] == accepted.json()["request_id"]
    assert data["metrics"]["cost"] == 0.01
    assert local.client.get(data["output"]).status_code == 200
    headers, _ = receiver.deliveries[0]
    assert headers["webhook-id"] == f"msg_{data['request_id'].replace('-', '')}"


def test_a_failure_is_told_too(local: Service, receiver: Receiver) -> None:
    key = local.new_key()
    local.engine.error = ZeroDivisionError()
    submit(local, key, webhook_url=receiver.url)
    receiver.wait(1)
    event = receiver.verified(0, local.keys.secret_of(key)[1])
    assert (event["type"], event["data"]["error"]) == ("request.failed", "Internal Server Error")


def test_a_receiver_that_refuses_twice_gets_it_at_last(local: Service, receiver: Receiver) -> None:
    receiver.refuse = 2
    key = local.new_key()
    submit(local, key, webhook_url=receiver.url)
    receiver.wait(3)
    events = [receiver.verified(i, local.keys.secret_of(key)[1]) for i in range(3)]
    assert events[0] == events[1] == events[2]
    assert len({headers["webhook-id"] for headers, _ in receiver.deliveries}) == 1


def test_what_a_stopped_server_owes_the_next_one_delivers(
    serve, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.webhooks.FIRST_PAUSE_S", 60)
    receiver.refuse = 1
    with serve(fetch_private_addresses=True) as service:
        key = service.new_key("1")
        accepted = submit(service, key, webhook_url=receiver.url)
        until(lambda: tries_of(service) == [1])
    assert len(receiver.deliveries) == 1
    with serve(fetch_private_addresses=True) as service:
        make_due(service)
        receiver.wait(2)
        event = receiver.verified(1, service.keys.secret_of(key)[1])
        assert event["data"]["request_id"] == accepted.json()["request_id"]
        assert len({headers["webhook-id"] for headers, _ in receiver.deliveries}) == 1
        # What was delivered is owed no more.
        submit(service, key, webhook_url=receiver.url)
        receiver.wait(3)
        until(lambda: tries_of(service) == [])
    with serve(fetch_private_addresses=True):
        time.sleep(1.5)
    assert len(receiver.deliveries) == 3


@pytest.mark.slow
def test_three_tries_are_all_over_restarts_too(
    serve, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.webhooks.FIRST_PAUSE_S", 60)
    receiver.status = 500
    with serve(fetch_private_addresses=True) as service:
        submit(service, service.new_key(), webhook_url=receiver.url)
        until(lambda: tries_of(service) == [1])
    for left in ([2], []):
        with serve(fetch_private_addresses=True) as service:
            make_due(service)
            until(lambda left=left: tries_of(service) == left)
    with serve(fetch_private_addresses=True):
        time.sleep(1.5)
    assert len(receiver.deliveries) == 3


def test_a_request_that_is_cancelled_while_it_waits_is_told_too(
    local: Service, receiver: Receiver
) -> None:
    local.engine.dawdle = True
    key = local.new_key("1")
    for seed in range(4):
        submit(local, key, seed=seed)
    until(lambda: len(local.engine.jobs) == 4)
    waiting = submit(local, key, webhook_url=receiver.url).json()
    local.client.delete(waiting["response_url"], headers={"x-api-key": key})
    receiver.wait(1)
    event = receiver.verified(0, local.keys.secret_of(key)[1])
    assert (event["type"], event["data"]["error"]) == ("request.failed", "Request was cancelled")
    assert event["data"]["request_id"] == waiting["request_id"]


def test_an_unlimited_account_is_told_the_number_it_always_sees(
    local: Service, receiver: Receiver
) -> None:
    key = local.new_key()
    submit(local, key, webhook_url=receiver.url)
    receiver.wait(1)
    event = receiver.verified(0, local.keys.secret_of(key)[1])
    assert event["data"]["metrics"]["remaining_credits"] == 1_000_000


def test_a_receiver_that_dawdles_keeps_no_other_waiting(
    local: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.webhooks._TIMEOUT_S", 60)
    with receiving() as slow:
        slow.pause_s = 60
        key = local.new_key()
        for seed in range(8):
            submit(local, key, seed=seed, webhook_url=slow.url)
        submit(local, key, webhook_url=receiver.url)
        receiver.wait(1)


@pytest.mark.parametrize("status", [500, 302])
def test_three_tries_are_all_and_no_redirect_is_followed(
    local: Service, receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = status
    key = local.new_key()
    submit(local, key, webhook_url=receiver.url)
    receiver.wait(3)
    receiver.status = 204
    submit(local, key, webhook_url=receiver.url)
    receiver.wait(4)
    ids = [headers["webhook-id"] for headers, _ in receiver.deliveries]
    assert (len(ids), len(set(ids))) == (4, 2)
    assert f"it answered with status {status}" in caplog.text


def test_a_keys_own_webhook_is_told_unless_the_request_names_one(
    local: Service, receiver: Receiver
) -> None:
    key = local.new_key()
    _, secret = local.keys.set_webhook(key, receiver.url)
    with receiving() as other:
        submit(local, key)
        receiver.wait(1)
        submit(local, key, webhook_url=other.url)
        other.wait(1)
        assert other.verified(0, secret)["type"] == "request.completed"
    local.keys.set_webhook(key, None)
    assert local.keys.secret_of(key)[1] == secret
    assert len(receiver.deliveries) == 1


def test_nothing_inside_is_reached(
    service: Service,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = service.new_key()
    by_name = receiver.url.replace("127.0.0.1", "inside.example")
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "inside.example" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    accepted = submit(service, key, webhook_url=by_name)
    job_id = accepted.json()["request_id"].replace("-", "")
    until(lambda: f"{job_id}: the webhook was not delivered" in caplog.text)
    assert "does not lead to a public address" in caplog.text
    assert receiver.deliveries == []
