"""Spans arrive where OpenTelemetry's variables say, with what the log has and no secret."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract_calls import GOOD
from measured_server import measured
from steered_server import steered
from waiting import until
from workers_support import begun

pytest.importorskip("opentelemetry.sdk")
trace_service_pb2 = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

Attributes = dict[str, object]
_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans over OTLP, as a real collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[tuple[str, str, Attributes]] = []
        self.resources: list[Attributes] = []
        self.sent: list[Any] = []

    def until(self, count: int) -> list[tuple[str, str, Attributes]]:
        until(lambda: len(self.spans) >= count)
        return self.spans


class Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        sent = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            self.server.resources.append(read(resource.resource.attributes))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = read(span.attributes)
                    self.server.sent.append(span)
                    self.server.spans.append((span.name, span.trace_id.hex(), attributes))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


def read(pairs: object) -> Attributes:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture
def endpoint(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")


@pytest.mark.usefixtures("endpoint")
def test_a_request_is_a_span_without_its_url(collector: Collector, tmp_path: Path) -> None:
    with measured(tmp_path) as server:
        server.client.get("/health")
        headers = {"traceparent": _PARENT}
        path = "/v1/face-detailer"
        good = server.client.post(f"{path}?signature=s3cret", json=GOOD, headers=headers)
        server.client.get("/v2/results/s3cret/0.jpg?signature=s3cret")
        server.client.post(path, json=GOOD, headers={"x-api-key": "SG_s3cret"})
        (name, trace_id, attributes), (other, _, lost), (refused, _, _) = collector.until(3)
    assert good.status_code == 200
    assert (name, other) == ("POST /v1/face-detailer", "GET /v2/results/{token}/{name}")
    assert refused == "POST /v1/face-detailer"
    assert trace_id == _PARENT.split("-")[1]
    wanted = {
        "http.route": path,
        "url.path": path,
        "url.query": "",
        "http.response.status_code": 200,
        "face_detailer.request": good.headers["x-request-id"],
        "face_detailer.faces": 0,
        "face_detailer.cost": "0.01",
    }
    assert wanted.items() <= attributes.items()
    assert lost["http.response.status_code"] == 404
    assert "s3cret" not in str(collector.spans)
    assert server.key not in str(collector.spans)


@pytest.mark.slow
@pytest.mark.usefixtures("endpoint")
def test_the_stages_of_its_work_are_spans_below_it(collector: Collector, tmp_path: Path) -> None:
    """Though they were in a worker, which has one place here, and the wait for it before."""
    with steered(tmp_path, worker_concurrency="1") as server:
        first = server.begin_post(f"wait_for={tmp_path / 'a'}")
        until(lambda: begun(tmp_path / "a"))
        second = server.begin_post("linger=0.5")
        until(lambda: server.rows("SELECT count(*) FROM holds") == [(2,)])
        time.sleep(1.5)
        (tmp_path / "a").touch()
        assert first.wait().status_code == 200
        reply = second.wait()
        assert reply.status_code == 200
        until(lambda: whole(collector, reply.headers["x-request-id"]))
    request, stages = whole(collector, reply.headers["x-request-id"])
    queue, decode, encode = (stages[name] for name in ("queue", "decode", "encode"))
    assert request.start_time_unix_nano <= queue.start_time_unix_nano
    assert queue.end_time_unix_nano - queue.start_time_unix_nano > 0.5e9
    assert queue.end_time_unix_nano <= decode.start_time_unix_nano
    assert encode.start_time_unix_nano - decode.end_time_unix_nano > 0.4e9
    assert encode.end_time_unix_nano <= request.end_time_unix_nano
    assert {span.trace_id for span in stages.values()} == {request.trace_id}
    assert [list(span.attributes) for span in stages.values()] == [[]] * len(stages)


@pytest.mark.slow
@pytest.mark.usefixtures("endpoint")
def test_so_are_those_of_stored_work_below_a_span_of_its_own(
    collector: Collector, tmp_path: Path
) -> None:
    headers = {"traceparent": _PARENT, "idempotency-key": "a"}
    with steered(tmp_path) as server:
        once = server.post("linger=0.5", headers=headers)
        assert once.status_code == 200
        until(lambda: stored(collector, "done"))
        server.post("exit_at_once=3", "/v2/face-detailer", headers={"traceparent": _PARENT})
        until(lambda: stored(collector, "failed"))
        requests = [s for s in collector.sent if s.name.startswith("POST ")]
    job, failed = stored(collector, "done"), stored(collector, "failed")
    assert [request.span_id for request in requests] == [job.parent_span_id, failed.parent_span_id]
    assert job.trace_id.hex() == failed.trace_id.hex() == _PARENT.split("-")[1]
    told = read(job.attributes)
    assert (told["face_detailer.faces"], told["face_detailer.cost"]) == (1, "0.01")
    assert told["face_detailer.request"] == once.headers["x-request-id"]
    stages = {s.name: s for s in collector.sent if s.parent_span_id == job.span_id}
    # Not from when the engine got it, with a place.
    assert stages["queue"].start_time_unix_nano == job.start_time_unix_nano
    assert stages["queue"].end_time_unix_nano <= stages["decode"].start_time_unix_nano
    assert stages["encode"].end_time_unix_nano <= job.end_time_unix_nano
    assert (job.status.code, failed.status.code) == (0, 2)
    assert read(failed.attributes)["face_detailer.error"] == "WorkFailed"


def stored(collector: Collector, end: str) -> Any:
    """The span of a stored request that ended so; None: it is not there yet."""
    spans = [span for span in list(collector.sent) if span.name == "stored request"]
    found = [s for s in spans if read(s.attributes)["face_detailer.end"] == end]
    return found[0] if found else None


def whole(collector: Collector, request_id: str) -> tuple[Any, dict[str, Any]] | None:
    """The span of a request and, by name, those of its stages; None: they are not there yet."""
    for span in list(collector.sent):
        if read(span.attributes).get("face_detailer.request") == request_id:
            below = [s for s in list(collector.sent) if s.parent_span_id == span.span_id]
            return (span, {s.name: s for s in below}) if "encode" in str(below) else None
    return None
