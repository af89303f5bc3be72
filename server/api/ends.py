"""The end of a stored job, for the log, the metrics and the traces."""

import contextlib
import logging
import time
from collections.abc import Sequence
from decimal import Decimal

from pipeline.timing import StageTime
from server.api.contract import credits_text
from server.api.replies import in_log, row_of
from server.api.stored import StoredRequest, StoredResult
from server.api.tracing import trace_job
from server.logs import with_fields
from server.metrics import Metrics
from server.types import StoredJob

_log = logging.getLogger(__name__)


def tell_end(
    job: StoredJob,
    end: str,
    came_of_it: StoredResult | Exception,
    stages: Sequence[StageTime],
    metrics: Metrics,
) -> None:
    """`end`: the name of its last event. `stages`: of its work, if it was done."""
    seconds = time.time() - job.created_ms / 1000
    metrics.stored_job_seconds.labels(end).observe(seconds)
    fields: dict[str, str | int] = {"end": end, "ms": round(seconds * 1000)}
    fields |= {"request": job.id, "account": job.account_id}
    if isinstance(came_of_it, StoredResult):
        cost = came_of_it.cost or Decimal(0)
        fields |= {"faces": came_of_it.report.detailed, "cost": credits_text(cost)}
    else:
        fields["error"] = in_log(came_of_it)
    _log.info("stored request", extra=with_fields(fields))
    parent = None
    # A request that cannot be read has failed for just that.
    with contextlib.suppress(ValueError):
        parent = StoredRequest.from_json(job.request).traceparent
    begun_ns = job.created_ms * 1_000_000
    failed = isinstance(came_of_it, Exception) and row_of(came_of_it).status >= 500
    trace_job(begun_ns, parent, fields, _from_acceptance(begun_ns, stages), failed=failed)


def _from_acceptance(accepted_ns: int, stages: Sequence[StageTime]) -> list[StageTime]:
    """The wait for a worker began before the engine had the job, which it gets with a place."""
    if not stages:
        return []
    # What runs on Ray has none.
    has_queue = stages[0].name == "queue"
    begun_ns = stages[0].ended_ns if has_queue else stages[0].begun_ns
    return [StageTime("queue", accepted_ns, max(accepted_ns, begun_ns)), *stages[has_queue:]]
