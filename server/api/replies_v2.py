"""The bodies of v2's replies: a stored job's status and its result."""

import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from starlette.responses import Response

from server.api.replies import Call, json_reply
from server.api.stored import StoredRequest, StoredResult
from server.types import JobState, StoredJob

_FAILED_STATUS: Final = 422
_MEDIA_TYPES: Final = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def wire_id(job_id: str) -> str:
    """A job's id as clients see it: a UUID with dashes."""
    return str(uuid.UUID(job_id))


def job_id_of(wire: str) -> str | None:
    """The id in the table of what a client sent; None if it is no UUID."""
    try:
        return uuid.UUID(wire).hex
    except ValueError:
        return None


def submitted_body(job: StoredJob, base_url: str) -> dict[str, object]:
    """What a client needs to follow its request."""
    urls = _urls(job, base_url)
    return {
        "request_id": wire_id(job.id),
        "status": job.state,
        **urls,
        "poll_url": urls["status_url"],
        "cancel_url": f"{urls['response_url']}/cancel",
        "events_url": f"{urls['response_url']}/events",
    }


def status_body(job: StoredJob, base_url: str, place: int | None) -> dict[str, object]:
    """How far a request is. `place`: how many wait before it, if it waits."""
    body: dict[str, object] = {"status": job.state, "request_id": wire_id(job.id)}
    body |= _urls(job, base_url)
    body["metrics"] = {} if place is None else {"queue_position": place}
    if job.state is JobState.FAILED:
        body["error"] = job.error
    return body


def result_body(job: StoredJob, base_url: str, remaining: Decimal) -> dict[str, object]:
    """What came of a request that has ended."""
    request = StoredRequest.from_json(job.request)
    body: dict[str, object] = {"status": job.state, "error": job.error}
    body |= {"request_id": wire_id(job.id), "output": None, "images": []}
    metrics = _times(job)
    if job.result is not None:
        result = StoredResult.from_json(job.result)
        images = [_image(result, index, base_url) for index in range(len(result.names))]
        body |= {"output": images[0]["url"], "images": images}
        metrics = {
            "cost": float(request.cost if result.cost is None else result.cost),
            "remaining_credits": float(remaining),
            "inference_time": round(result.seconds, 3),
            **metrics,
        }
        report = result.report
        body["faces"] = {
            "found": report.found,
            "detailed": report.detailed,
            "left_out": dict(report.left_out),
            "unchanged": report.unchanged,
        }
        if report.identity:
            body["identity"] = [judged.figures for judged in report.identity]
        if report.note:
            body["profile_note"] = report.note
        if report.unread:
            body["prompt_unread"] = list(report.unread)
    body |= {"seed": request.seed, "prompt": request.options.recipe.prompt, "metrics": metrics}
    return body


def job_reply(job: StoredJob, body: Mapping[str, object], call: Call) -> Response:
    """The body under the status of the job's state."""
    status = _FAILED_STATUS if job.state is JobState.FAILED else 200
    return json_reply(body, call, status)


def media_type_of(name: str) -> str:
    """Of a result's file."""
    return _MEDIA_TYPES[name.rpartition(".")[2]]


def _image(result: StoredResult, index: int, base_url: str) -> dict[str, object]:
    name = result.names[index]
    return {
        "url": f"{base_url}/v2/results/{result.token}/{name}",
        "content_type": media_type_of(name),
        "file_name": name,
        "file_size": result.sizes_bytes[index],
        "width": result.width_px,
        "height": result.height_px,
    }


def _urls(job: StoredJob, base_url: str) -> dict[str, str]:
    response_url = f"{base_url}/v2/requests/{wire_id(job.id)}"
    return {"status_url": f"{response_url}/status", "response_url": response_url}


def _times(job: StoredJob) -> dict[str, object]:
    """Seconds waited and in all, as far as they are known."""
    times: dict[str, object] = {}
    if job.started_ms is not None:
        times["queue_time"] = (job.started_ms - job.created_ms) / 1000
    if job.finished_ms is not None:
        times["total_time"] = (job.finished_ms - job.created_ms) / 1000
    return times
