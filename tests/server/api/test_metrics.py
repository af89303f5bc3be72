"""What `/metrics` says of a server whose workers are processes, and who may read it."""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest
import worker_loads
from contract_calls import GOOD, assert_error
from http_service import Service, running
from prometheus_client.parser import text_string_to_metric_families
from waiting import until
from workers_support import SMALL, loader, png, until_ready

from pipeline.report import FaceIdentity, Report
from server.engine.workers import WorkerPool
from server.metrics import Metrics
from server.settings import Settings

Serve = Callable[..., AbstractContextManager[Service]]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
TOKEN = "t" * 16
PICTURE = base64.b64encode(png(SMALL)).decode()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with one real worker, which inverts pictures."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(data_dir=folder, devices=("cpu",), profile="tiny", metrics=True)
    metrics = Metrics()
    pool = WorkerPool(settings, load=loader(worker_loads.finder), metrics=metrics)
    with running(settings, pool, metrics) as service:
        until_ready(service.client)
        yield service


def read(service: Service) -> Samples:
    reply = service.client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name.removeprefix("face_detailer_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def changes(before: Samples, after: Samples) -> Samples:
    return {key: value - before.get(key, 0) for key, value in after.items()}


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def post(service: Service, key: str, path: str = "/v1/face-detailer", **more: object) -> int:
    body = {**GOOD, "image": PICTURE, "prompt": "", **more}
    return service.client.post(path, json=body, headers={"x-api-key": key}).status_code


def test_a_call_is_seen_in_all_its_parts(busy: Service) -> None:
    before = read(busy)
    assert post(busy, busy.new_key("1"), samples=2) == 200
    seen = changes(before, read(busy))
    route = {"route": "/v1/face-detailer"}
    assert of(seen, "requests_total", method="POST", status="200", **route) == 1
    assert of(seen, "request_seconds_count", **route) == 1
    assert of(seen, "jobs_total", kind="detail", end="done") == 1
    assert of(seen, "queue_seconds_count", kind="detail") == 1
    assert of(seen, "stage_seconds_count", stage="decode") == 1
    assert of(seen, "stage_seconds_count", stage="encode") == 1
    assert of(seen, "faces_total", fate="detailed") == 1
    assert of(seen, "faces_total", fate="unchanged") == 1
    assert of(seen, "unet_calls_total", device="cpu") == 1
    assert of(seen, "unet_rows_total", device="cpu") == 3
    assert of(seen, "unet_row_places_total", device="cpu") == 4
    assert of(seen, "credits_held_total") == pytest.approx(0.02)
    assert of(seen, "credits_charged_total") == pytest.approx(0.02)
    assert of(seen, "credits_refunded_total") == 0


def test_what_the_identity_gate_made_of_faces_is_counted() -> None:
    metrics, value = Metrics(), lambda outcome: metrics.identity.labels(outcome)._value.get()
    metrics.count_work(
        {"identity": 0.2},
        Report(identity=(FaceIdentity(1, 1, 0.9, "weaker"), FaceIdentity(1, 2, 0.2, "left"))),
    )
    counted = {outcome: value(outcome) for outcome in ("kept", "weaker", "left", "unknown")}
    assert counted == {"kept": 0, "weaker": 1, "left": 1, "unknown": 0}


def test_what_went_wrong_is_seen_as_such(busy: Service) -> None:
    before, key = read(busy), busy.new_key("1")
    assert post(busy, key, prompt="fail=") == 500
    assert post(busy, key, prompt="refuse=broken") == 400
    assert post(busy, key, denoise=2) == 400
    assert post(busy, "SG_none") == 401
    assert post(busy, key, "/v1/face-detailer/detect") == 200
    seen = changes(before, read(busy))
    statuses = {
        dict(labels)["status"]: value
        for (name, labels), value in seen.items()
        if name == "requests_total" and ("route", "/v1/face-detailer") in labels
    }
    assert {status: statuses[status] for status in ("400", "401", "500")} == {
        "400": 2,
        "401": 1,
        "500": 1,
    }
    assert of(seen, "jobs_total", kind="detail", end="failed") == 1
    assert of(seen, "jobs_total", kind="detail", end="refused") == 1
    assert of(seen, "jobs_total", kind="detect", end="done") == 1
    assert of(seen, "credits_charged_total") == 0
    assert of(seen, "credits_held_total") == of(seen, "credits_refunded_total") > 0


def test_what_is_now_is_seen(busy: Service) -> None:
    assert post(busy, busy.new_key()) == 200
    now = read(busy)
    states = {s: of(now, "worker_state", device="cpu", state=s) for s in ("ready", "dead", "busy")}
    assert states == {"ready": 1, "dead": 0, "busy": 0}
    assert of(now, "worker_starts_total", device="cpu") >= 1
    assert of(now, "worker_resident_bytes", device="cpu") > 10_000_000
    assert of(now, "process_resident_memory_bytes") > 10_000_000
    assert of(now, "queue_jobs", kind="detail") == 0
    assert of(now, "bodies") == of(now, "bodies_bytes") == 0
    # The one that asks.
    assert of(now, "requests_in_progress") == 1


def test_a_request_of_the_queue_is_seen(busy: Service) -> None:
    before = read(busy)
    assert post(busy, busy.new_key("1"), "/v2/face-detailer") == 200
    busy.until_idle()
    seen = changes(before, read(busy))
    assert of(seen, "jobs_total", kind="detail", end="done") == 1
    assert of(seen, "credits_held_total") == of(seen, "credits_charged_total") > 0
    until(lambda: of(read(busy), "stored_jobs_waiting") == 0)


def test_no_label_comes_from_a_stranger(busy: Service) -> None:
    key = busy.new_key()
    for method, path in [
        ("GET", "/secret-path"),
        ("BREW", "/v1/face-detailer"),
        ("GET", "/v2/results/a-token-that-is-a-secret/0.jpg"),
    ]:
        busy.client.request(method, path, headers={"x-api-key": key, "x-odd": "odd"})
    labels = {value for _, pairs in read(busy) for _, value in pairs}
    assert {"other", "/v2/results/{token}/{name}"} <= labels
    assert not [label for label in labels if re.search("secret|BREW|odd|SG_", label)]


def test_without_the_setting_there_is_no_such_path(serve: Serve) -> None:
    with serve() as service:
        keyed = service.client.get("/metrics", headers={"x-api-key": service.new_key()})
        assert_error(keyed, 404, "The requested URL does not exist")
        assert_error(
            service.client.get("/metrics"), 401, "Missing Authorization or x-api-key in header"
        )
        assert "/metrics" not in service.client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"x-api-key": TOKEN}, 200),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": "Bearer ü".encode("latin-1")}, 401),
        ({}, 401),
    ],
)
def test_a_token_is_asked_for(serve: Serve, header: dict[str, str], status: int) -> None:
    with serve(metrics=True, metrics_token=TOKEN) as service:
        assert service.client.get("/metrics", headers=header).status_code == status
        described = service.client.get("/openapi.json").json()["paths"]["/metrics"]["get"]
        key = {"x-api-key": service.new_key()}
        assert service.client.get("/metrics", headers=key).status_code == 401
    assert described["security"]
    assert "401" in described["responses"]


def test_openmetrics_is_given_to_whoever_asks_for_it(busy: Service) -> None:
    reply = busy.client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")


def test_the_document_says_that_no_key_is_needed(busy: Service) -> None:
    document = busy.client.get("/openapi.json").json()
    assert document["paths"]["/metrics"]["get"]["security"] == []
    described = document["paths"]["/metrics"]["get"]["responses"]["200"]["headers"]
    reply: httpx.Response = busy.client.get("/metrics")
    plain = {"content-length", "content-type", "date", "server"}
    assert {name.lower() for name in described} == set(reply.headers.keys()) - plain
