"""The queue of v2 by HTTP: accepted, followed, delivered, and each account's own."""

import base64
import io
import json
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
from http_service import Service, encoded
from v2_calls import ASKED, ended, events_of, get, submit
from waiting import until

from face_detailer_client import Client
from pipeline.report import FaceIdentity, Report
from server.accounts.jobs import JobStore
from server.api.desk import _delete_old
from server.errors import StorageFull


def test_a_request_is_accepted_followed_and_delivered(service: Service) -> None:
    key = service.new_key("1")
    accepted = submit(service, key, samples=2, seed=7, image_format="png")
    body = accepted.json()
    assert accepted.status_code == 200
    assert body["status"] == "QUEUED"
    assert str(uuid.UUID(body["request_id"])) == body["request_id"]
    base = f"{service.url}/v2/requests/{body['request_id']}"
    assert (body["status_url"], body["response_url"]) == (f"{base}/status", base)
    assert body["poll_url"] == body["status_url"]

    status = ended(service, key, accepted)
    assert status.status_code == 200
    assert {"status": "COMPLETED", "request_id": body["request_id"], "metrics": {}}.items() <= (
        status.json().items()
    )

    result = get(service, key, body["response_url"])
    answer = result.json()
    assert result.status_code == 200
    assert (answer["status"], answer["error"], answer["seed"]) == ("COMPLETED", None, 7)
    assert answer["prompt"] == "a face"
    assert answer["output"] == answer["images"][0]["url"]
    assert len(answer["images"]) == 2
    metrics = answer["metrics"]
    assert (metrics["cost"], metrics["remaining_credits"]) == (0.02, 0.98)
    assert min(metrics[name] for name in ("inference_time", "queue_time", "total_time")) >= 0
    for image in answer["images"]:
        assert re.fullmatch(rf"{service.url}/v2/results/[\w-]{{32}}/\d\.png", image["url"])
        # Whoever knows the address needs no key.
        file = service.client.get(image["url"])
        assert (file.status_code, file.headers["content-type"]) == (200, "image/png")
        assert len(file.content) == image["file_size"]
        assert PIL.Image.open(io.BytesIO(file.content)).size == (24, 16)


def test_what_the_identity_gate_made_of_each_face_is_told(service: Service) -> None:
    judged = (FaceIdentity(1, 1, 0.941268, "kept"), FaceIdentity(2, 1, None, "unknown"))
    service.engine.report = Report(found=2, detailed=2, identity=judged)
    key = service.new_key("1")
    accepted = submit(service, key)
    ended(service, key, accepted)
    assert get(service, key, accepted.json()["response_url"]).json()["identity"] == [
        {"face": 1, "sample": 1, "cosine": 0.9413, "outcome": "kept"},
        {"face": 2, "sample": 1, "cosine": None, "outcome": "unknown"},
    ]
    with Client(service.url, key) as client:
        told = client.detail(encoded(), prompt="a face", denoise=0.4).identity
    assert [(judged.face, judged.cosine, judged.outcome) for judged in told] == [
        (1, 0.9413, "kept"),
        (2, None, "unknown"),
    ]


def test_v2_gives_the_bytes_that_v1_gives(service: Service) -> None:
    key = service.new_key()
    picture = base64.b64encode(encoded()).decode()
    same = {**ASKED, "image": picture, "image_format": "webp", "image_quality": 80}
    sync = service.post(key, **same, base64=False)
    accepted = submit(service, key, image_format="webp", image_quality=80)
    ended(service, key, accepted)
    output = get(service, key, accepted.json()["response_url"]).json()["output"]
    file = service.client.get(output)
    assert file.content == sync.content
    assert re.fullmatch(r"[0-9a-f]{32}", file.headers["x-request-id"])
    assert file.headers["x-content-type-options"] == "nosniff"


def test_a_result_can_be_had_in_parts_and_asked_for_by_head(service: Service) -> None:
    key = service.new_key()
    accepted = submit(service, key)
    ended(service, key, accepted)
    url = get(service, key, accepted.json()["response_url"]).json()["output"]
    whole = service.client.get(url)
    part = service.client.get(url, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    head = service.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    "path", ["/v2/results/", f"/v2/results/{'a' * 32}/0.jpg", "/v2/results/x/../../requests"]
)
def test_no_result_is_found_by_guessing(service: Service, path: str) -> None:
    reply = service.client.get(path)
    assert reply.status_code in (401, 404)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"denoise": 2}, 400, "denoise should be between 0 and 1"),
        ({"prompt": None}, 400, "Prompt is Mandatory and must be string"),
        ({"image": "!!"}, 400, "Invalid image: it is neither an http(s) URL nor base64 nor a data"),
        ({"image": "ftp://a/b.png"}, 400, "Invalid image: its URL must start with http://"),
        ({"image": "http://\ud800/"}, 400, "Invalid image: its URL cannot be understood"),
        ({"image": "https://a.example/\ud800"}, 400, "Invalid image: its URL cannot be understood"),
        ({"image": "QUJD"}, 400, "Invalid image: the file is not a PNG"),
        ({"webhook_url": "mailto:me"}, 400, "webhook_url should be an http:// or https:// URL"),
        ({"webhook_url": 7}, 400, "webhook_url must be string"),
    ],
)
def test_what_is_wrong_is_said_at_once_and_nothing_is_queued(
    service: Service, body: dict[str, Any], status: int, text: str
) -> None:
    key = service.new_key("1")
    reply = submit(service, key, **body)
    assert reply.status_code == status
    assert reply.json()["error"].startswith(text)
    assert service.credits_of(key) == 1
    assert service.engine.jobs == []


def test_the_order_of_checks_is_v1s(service: Service) -> None:
    post, key = service.client.post, service.new_key("0.001")
    assert post("/v2/face-detailer", json={}).status_code == 401
    assert service.client.get("/v2/face-detailer", headers={"x-api-key": key}).status_code == 405
    poor = {"x-api-key": key}
    assert post("/v2/face-detailer", content=b"x", headers=poor).json()["error"] == (
        "Invalid content type"
    )
    assert post("/v2/face-detailer", json={}, headers=poor).json()["error"] == "Not enough credits"


def test_a_failed_request_says_why_under_422_and_costs_nothing(service: Service) -> None:
    key = service.new_key("1")
    service.engine.error = ZeroDivisionError("secret")
    accepted = submit(service, key)
    status = ended(service, key, accepted)
    result = get(service, key, accepted.json()["response_url"])
    assert (status.status_code, result.status_code) == (422, 422)
    for reply in (status, result):
        assert (reply.json()["status"], reply.json()["error"]) == (
            "FAILED",
            "Internal Server Error",
        )
        assert "cost" not in reply.json()["metrics"]
        assert "secret" not in reply.text
    assert service.credits_of(key) == 1


def test_another_accounts_request_is_unknown(service: Service) -> None:
    key, other = service.new_key(), service.new_key()
    accepted = submit(service, key).json()
    missing = f"{service.url}/v2/requests/{uuid.uuid4()}"
    for url in (accepted["status_url"], accepted["response_url"], f"{missing}/status", missing):
        reply = get(service, other, url)
        wire = url.removesuffix("/status").rpartition("/")[2]
        assert (reply.status_code, reply.json()) == (404, {"error": f"Request {wire} not found"})
    for method, url in (
        ("DELETE", accepted["response_url"]),
        ("POST", accepted["cancel_url"]),
        ("GET", accepted["events_url"]),
    ):
        reply = service.client.request(method, url, headers={"x-api-key": other})
        assert reply.status_code == 404
    assert get(service, other, f"{service.url}/v2/requests/not-an-id").status_code == 404
    assert get(service, key, accepted["status_url"]).status_code == 200


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_a_running_request_can_be_cancelled_for_free(service: Service, method: str) -> None:
    key = service.new_key("1")
    service.engine.dawdle = True
    accepted = submit(service, key)
    until(lambda: service.engine.jobs)
    url = accepted.json()["response_url" if method == "DELETE" else "cancel_url"]
    reply = service.client.request(method, url, headers={"x-api-key": key})
    assert reply.status_code == 200
    assert service.engine.cancelled.wait(30)
    status = ended(service, key, accepted)
    assert (status.status_code, status.json()["error"]) == (422, "Request was cancelled")
    assert service.credits_of(key) == 1
    again = service.client.request(method, url, headers={"x-api-key": key})
    assert (again.status_code, again.json()["status"]) == (200, "FAILED")


@pytest.mark.slow
def test_the_picture_of_a_request_that_is_cancelled_while_it_waits_takes_no_room(
    serve, tmp_path: Path
) -> None:
    with serve() as service:
        key = service.new_key()
        service.engine.dawdle = True
        for _ in range(service.engine.capacity):
            submit(service, key)
        until(lambda: len(service.engine.jobs) == service.engine.capacity)
        waiting = submit(service, key).json()
        inputs = next(tmp_path.rglob("inputs"))
        assert len(list(inputs.iterdir())) == service.engine.capacity + 1
        service.client.delete(waiting["response_url"], headers={"x-api-key": key})
        assert get(service, key, waiting["status_url"]).json()["status"] == "FAILED"
        assert len(list(inputs.iterdir())) == service.engine.capacity


def test_a_form_with_a_file_is_taken_too(service: Service) -> None:
    key = service.new_key()
    reply = service.client.post(
        "/v2/face-detailer",
        data={"prompt": "", "denoise": "0.4"},
        files={"image": ("a.png", encoded(), "image/png")},
        headers={"x-api-key": key},
    )
    assert reply.status_code == 200
    assert ended(service, key, reply).json()["status"] == "COMPLETED"


def test_the_same_key_and_body_again_is_the_same_request(service: Service) -> None:
    key, other = service.new_key("1"), service.new_key("1")

    def send(whose: str, mark: str, **body: object) -> httpx.Response:
        picture = {"image": base64.b64encode(encoded()).decode()}
        headers = {"x-api-key": whose, "idempotency-key": mark}
        return service.client.post(
            "/v2/face-detailer", json=picture | ASKED | body, headers=headers
        )

    first, again = send(key, "a"), send(key, "a")
    assert first.json()["request_id"] == again.json()["request_id"]
    ended(service, key, first)
    later = send(key, "a")
    assert (later.json()["request_id"], later.json()["status"]) == (
        first.json()["request_id"],
        "COMPLETED",
    )
    clash = send(key, "a", seed=8)
    assert clash.status_code == 409
    others = {key: send(key, "b"), other: send(other, "a")}
    for whose, reply in others.items():
        assert reply.json()["request_id"] != first.json()["request_id"]
        ended(service, whose, reply)
    assert len(service.engine.jobs) == 3
    assert send(key, "x" * 256).status_code == 400


def test_v1_with_a_key_sent_again_is_one_charge_and_the_same_bytes(service: Service) -> None:
    key = service.new_key("1")
    body = {**ASKED, "image": base64.b64encode(encoded()).decode(), "base64": False}
    headers = {"x-api-key": key, "idempotency-key": "once"}

    def send(**changes: object) -> httpx.Response:
        return service.client.post("/v1/face-detailer", json=body | changes, headers=headers)

    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: send(), range(4)))
    replies.append(send())
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1
    plain = service.post(service.new_key(), **body)
    assert replies[0].content == plain.content
    assert replies[0].headers.keys() == plain.headers.keys()
    assert service.credits_of(key) == 0.99
    assert send(seed=8).status_code == 409


def test_the_last_credits_pay_for_a_repeat_too(service: Service) -> None:
    key = service.new_key("0.01")
    body = {**ASKED, "image": base64.b64encode(encoded()).decode(), "base64": False}
    headers = {"x-api-key": key, "idempotency-key": "once"}
    first, again = (
        service.client.post("/v1/face-detailer", json=body, headers=headers) for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content
    other = service.client.post(
        "/v1/face-detailer", json=body, headers=headers | {"idempotency-key": "other"}
    )
    assert (other.status_code, other.json()["error"]) == (406, "Not enough credits")


def test_v1_with_a_key_fails_again_as_it_failed(service: Service) -> None:
    key = service.new_key("1")
    body = {**ASKED, "image": "http://127.0.0.1:1/a.png"}
    headers = {"x-api-key": key, "idempotency-key": "once"}
    for _ in range(2):
        reply = service.client.post("/v1/face-detailer", json=body, headers=headers)
        assert (reply.status_code, reply.json()) == (
            400,
            {"error": "Invalid image: its URL does not lead to a public address"},
        )
    assert service.credits_of(key) == 1


def test_v1_with_a_key_begins_anew_after_a_failure_that_passes(service: Service) -> None:
    key = service.new_key("1")
    body = {**ASKED, "image": base64.b64encode(encoded()).decode(), "base64": False}
    headers = {"x-api-key": key, "idempotency-key": "once"}
    service.engine.error = StorageFull()
    full = service.client.post("/v1/face-detailer", json=body, headers=headers)
    service.engine.error = None
    assert (full.status_code, full.json()["error"]) == (503, "The server's storage is full")
    assert int(full.headers["retry-after"]) >= 1
    replies = [
        service.client.post("/v1/face-detailer", json=body, headers=headers) for _ in range(2)
    ]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert service.credits_of(key) == 0.99


def test_uploaded_pictures_can_be_named_by_their_owner_alone(service: Service) -> None:
    key, other = service.new_key(), service.new_key()
    picture = encoded()
    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    upload = service.client.post(
        "/upload-asset", json={"data_urls": [uri, uri]}, headers={"x-api-key": key}
    )
    assert upload.status_code == 200
    urls = upload.json()["file_urls"]
    assert len(set(urls)) == 2
    assert upload.json()["message"]
    accepted = submit(service, key, image=urls[0])
    assert ended(service, key, accepted).json()["status"] == "COMPLETED"
    assert service.engine.jobs[-1].picture == picture
    assert service.post(key, **ASKED, image=urls[1]).status_code == 200
    stolen = submit(service, other, image=urls[0])
    assert stolen.status_code == 400
    assert "uploaded" in stolen.json()["error"]


def test_uploads_side_by_side_do_not_pass_the_quota(serve) -> None:
    picture = encoded(400, 400, "bmp")
    with serve(max_uploaded_bytes=3 * len(picture)) as service:
        headers = {"x-api-key": service.new_key()}

        def upload(_number: int) -> int:
            files = {"a": ("a.bmp", picture)}
            return service.client.post("/upload-asset", files=files, headers=headers).status_code

        with ThreadPoolExecutor(12) as threads:
            assert sorted(threads.map(upload, range(12))) == [200] * 3 + [413] * 9


def test_files_can_be_uploaded_as_a_form(service: Service) -> None:
    headers = {"x-api-key": service.new_key()}
    files = {"a": ("a.png", encoded()), "b": ("b.png", encoded())}
    reply = service.client.post("/upload-asset", files=files, headers=headers)
    assert len(reply.json()["file_urls"]) == 2
    for body in ({}, {"data_urls": []}, {"data_urls": "!!"}, {"data_urls": [3]}):
        assert service.client.post("/upload-asset", json=body, headers=headers).status_code == 400


def test_events_tell_what_happens_and_go_on_where_a_client_was(service: Service) -> None:
    key = service.new_key()
    accepted = submit(service, key)
    url = accepted.json()["events_url"]
    events = events_of(service, key, url)
    assert [name for _, name, _ in events] == [
        "queued",
        "processing",
        "detecting",
        "found",
        "step",
        "done",
    ]
    assert [number for number, _, _ in events] == ["1", "2", "3", "4", "5", "6"]
    assert json.loads(events[4][2]) == {
        "pass": "detail",
        "face": 1,
        "faces": 1,
        "sample": 1,
        "step": 1,
        "steps": 2,
        "done": 1,
        "total": 2,
        "share": 0.4,
    }
    assert '"status": "COMPLETED"' in events[-1][2]
    assert f"{service.url}/v2/results/" in events[-1][2]
    assert events_of(service, key, url, **{"last-event-id": "2"}) == events[2:]
    for beyond in (events[-1][0], "99", "9" * 10):
        assert events_of(service, key, url, **{"last-event-id": beyond}) == events[-1:]
    assert events_of(service, key, url, **{"last-event-id": "9" * 5000}) == events


def test_a_request_is_queued_before_it_is_processed_also_where_its_place_is_told_late(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = JobStore.ahead

    def slow(*args: Any) -> int:
        # Longer than until the next look for what waits.
        time.sleep(2)
        return ahead(*args)

    monkeypatch.setattr(JobStore, "ahead", slow)
    with serve() as service:
        key = service.new_key()
        events = events_of(service, key, submit(service, key).json()["events_url"])
    names = [name for _, name, _ in events]
    assert names[:2] == ["queued", "processing"]
    assert names.count("queued") == 1


def test_many_requests_at_once_are_all_answered(service: Service) -> None:
    key = service.new_key("10")
    accepted = [submit(service, key, seed=seed) for seed in range(40)]
    assert {reply.status_code for reply in accepted} == {200}
    assert {ended(service, key, reply).json()["status"] for reply in accepted} == {"COMPLETED"}
    assert service.credits_of(key) == pytest.approx(9.6)


@pytest.mark.slow
def test_a_full_queue_refuses_before_it_reads(serve) -> None:
    with serve(max_stored_jobs_per_account=1) as service:
        service.engine.dawdle = True
        key = service.new_key("1")
        assert submit(service, key).status_code == 200
        full = submit(service, key)
        assert (full.status_code, full.json()["error"]) == (429, "Server is busy")
        assert int(full.headers["retry-after"]) >= 1
        assert submit(service, service.new_key("1")).status_code == 200


def test_a_full_disk_refuses(serve) -> None:
    with serve(max_stored_bytes=2**20) as service:
        noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
        file = io.BytesIO()
        PIL.Image.fromarray(noise).save(file, "PNG")
        key = service.new_key("1")
        reply = submit(service, key, image=base64.b64encode(file.getvalue()).decode())
        assert (reply.status_code, reply.json()["error"]) == (503, "The server's storage is full")
        assert service.credits_of(key) == 1


def test_results_are_deleted_after_a_while(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()

    async def delete_old(*args: object) -> None:
        if read.is_set():
            await _delete_old(*args)

    monkeypatch.setattr("server.api.desk._SWEEP_EVERY_S", 0.2)
    monkeypatch.setattr("server.api.desk._delete_old", delete_old)
    with serve(keep_results_s=1) as service:
        key = service.new_key()
        accepted = submit(service, key)
        ended(service, key, accepted)
        body = accepted.json()
        output = get(service, key, body["response_url"]).json()["output"]
        assert service.client.get(output).status_code == 200
        read.set()
        until(lambda: get(service, key, body["status_url"]).status_code == 404)
        assert get(service, key, body["response_url"]).status_code == 404
        until(lambda: service.client.get(output).status_code == 404)


def test_urls_follow_the_proxy_and_the_setting(serve) -> None:
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-host": "faces.example"}
    for settings, base in (
        ({}, "https://faces.example"),
        ({"public_base_url": "https://other.example/f"}, "https://other.example/f"),
        ({"trusted_proxies": ("10.0.0.1",)}, None),
    ):
        with serve(**settings) as service:
            headers = {"x-api-key": service.new_key(), **forwarded}
            picture = {"image": base64.b64encode(encoded()).decode()}
            reply = service.client.post("/v2/face-detailer", json=picture | ASKED, headers=headers)
            assert reply.json()["status_url"].startswith(f"{base or service.url}/v2/requests/")


def test_browsers_may_call_where_a_setting_says_so(serve) -> None:
    asks = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
    }
    with serve(cors_origins=("https://app.example",)) as service:
        preflight = service.client.options("/v2/face-detailer", headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        origin = {"origin": "https://app.example"}
        refused = service.client.post("/v2/face-detailer", json={}, headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        stranger = service.client.options(
            "/v2/face-detailer", headers=asks | {"origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in stranger.headers
    with serve() as service:
        assert "access-control-allow-origin" not in (
            service.client.options("/v2/face-detailer", headers=asks).headers
        )
