"""What the server counts and measures, for Prometheus. docs/monitoring.md explains each of it.

Labels come from fixed sets alone, never from a sender: neither paths nor methods nor names.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from importlib.metadata import version
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from pipeline.report import Judgement, Report, Usage
from server.errors import BadImage, ServerError, TimedOut, TooLarge
from server.types import JobKind, Outcome, WorkerState

JobEnd = Literal["done", "refused", "failed", "timed_out", "cancelled"]
KINDS: Final[tuple[JobKind, ...]] = get_args(JobKind)

STAGES: Final = (
    *("decode", "detect", "overlay", "cut", "segment", "inpaint", "paste", "identity", "grain"),
    *("upscale", "encode"),
)
"""The stages of a job whose time is measured, in the order walked."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""The label of every route and method that is not served."""

_CALL_S: Final = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
_PREFIX: Final = "face_detailer"


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Memory, processor time and open files of the HTTP process.
        ProcessCollector(registry=self.registry)
        counter = functools.partial(Counter, namespace=_PREFIX, registry=self.registry)
        gauge = functools.partial(Gauge, namespace=_PREFIX, registry=self.registry)
        histogram = functools.partial(
            Histogram, namespace=_PREFIX, registry=self.registry, buckets=_CALL_S
        )
        self.build = Info("build", "The version.", namespace=_PREFIX, registry=self.registry)
        self.build.info({"version": version("face-detailer")})
        self.requests = counter("requests", "Replies.", ("method", "route", "status"))
        self.request_seconds = histogram("request_seconds", "Whole requests.", ("route",))
        self.requests_in_progress = gauge("requests_in_progress", "Requests without their reply.")
        self.bodies = gauge("bodies", "Bodies that are being received.")
        self.bodies_bytes = gauge("bodies_bytes", "What these declare or have had so far.")
        self.queue_jobs = gauge("queue_jobs", "Jobs that wait for a worker.", ("kind",))
        self.queue_seconds = histogram("queue_seconds", "How long jobs have waited.", ("kind",))
        self.jobs = counter("jobs", "Jobs that have ended.", ("kind", "end"))
        self.stage_seconds = histogram("stage_seconds", "Stages of jobs.", ("stage",))
        self.faces = counter("faces", "Faces of pictures that were detailed.", ("fate",))
        self.identity = counter("identity", "Faces that the identity gate judged.", ("outcome",))
        self.unet_calls = counter("unet_calls", "Calls of the denoising network.", ("device",))
        self.unet_rows = counter("unet_rows", "Rows in these calls.", ("device",))
        self.unet_row_places = counter(
            "unet_row_places", "Rows that these calls had room for.", ("device",)
        )
        self.device_memory_bytes = gauge(
            "device_memory_bytes", "Memory of a GPU.", ("device", "kind")
        )
        self.worker_resident_bytes = gauge(
            "worker_resident_bytes", "Memory of a worker's process.", ("device",)
        )
        self.worker_state = gauge(
            "worker_state", "1 for the state that a worker is in.", ("device", "state")
        )
        self.worker_starts = counter("worker_starts", "Workers that were started.", ("device",))
        self.stored_jobs_waiting = gauge("stored_jobs_waiting", "Requests of v2 that wait.")
        self.stored_job_seconds = histogram(
            "stored_job_seconds", "Requests of v2, from their acceptance to their end.", ("state",)
        )
        self.credits_held = counter("credits_held", "Credits that were set aside.")
        self.credits_charged = counter("credits_charged", "Credits that were taken.")
        self.credits_refunded = counter("credits_refunded", "Credits that were given back.")
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Label sets that are known beforehand are there before they are counted."""
        for kind in KINDS:
            for end in get_args(JobEnd):
                self.jobs.labels(kind, end)
        for fate in ("found", "detailed", "left_out", "unchanged"):
            self.faces.labels(fate)
        for outcome in get_args(Judgement):
            self.identity.labels(outcome)
        for stage in STAGES:
            self.stage_seconds.labels(stage)

    def count_request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """A reply has gone out. `route`: the template of its path; None where nothing is served."""
        method = method if method in METHODS else OTHER
        self.requests.labels(method, route or OTHER, str(status)).inc()
        self.request_seconds.labels(route or OTHER).observe(seconds)

    def count_job(self, kind: JobKind, end: JobEnd) -> None:
        """A job has ended."""
        self.jobs.labels(kind, end).inc()

    def count_work(self, seconds: Mapping[str, float], report: Report) -> None:
        """A job went well: how long its stages took, and what became of the faces."""
        for stage in STAGES:
            if stage in seconds:
                self.stage_seconds.labels(stage).observe(seconds[stage])
        self.faces.labels("found").inc(report.found)
        self.faces.labels("detailed").inc(report.detailed)
        self.faces.labels("left_out").inc(sum(report.left_out.values()))
        self.faces.labels("unchanged").inc(report.unchanged)
        for face in report.identity:
            self.identity.labels(face.outcome).inc()

    def count_usage(self, device: str, before: Usage, now: Usage, resident_bytes: int) -> None:
        """What a worker has done since it last told; the memory that it takes now."""
        self.unet_calls.labels(device).inc(now.calls - before.calls)
        self.unet_rows.labels(device).inc(now.rows - before.rows)
        self.unet_row_places.labels(device).inc(now.places - before.places)
        self.worker_resident_bytes.labels(device).set(resident_bytes)
        if now.memory is not None:
            for kind in ("total", "used", "reserved"):
                self.device_memory_bytes.labels(device, kind).set(getattr(now.memory, kind))

    def count_credits(self, move: Literal["held", "charged", "refunded"], amount: Decimal) -> None:
        """Credits have changed their place."""
        counters = {
            "held": self.credits_held,
            "charged": self.credits_charged,
            "refunded": self.credits_refunded,
        }
        counters[move].inc(float(amount))

    def watch_replicas(self, count: Callable[[], int]) -> None:
        """Read how many workers of a cluster can serve whenever somebody asks."""
        self.worker_state.labels("cluster", WorkerState.READY).set_function(count)

    def watch_worker(self, device: str, states: Iterable[str], now: Callable[[], str]) -> None:
        """Read a worker's state whenever somebody asks."""
        for state in states:
            gauge = self.worker_state.labels(device, state)
            gauge.set_function(functools.partial(_is_in, now, state))


def end_of(answer: Outcome | ServerError) -> JobEnd:
    """The name of a job's end that came with this answer."""
    if isinstance(answer, TimedOut):
        return "timed_out"
    if isinstance(answer, BadImage | TooLarge):
        return "refused"
    return "failed" if isinstance(answer, ServerError) else "done"


def _is_in(now: Callable[[], str], state: str) -> float:
    return float(now() == state)
