"""The bytes and headers of every reply, and the table from exceptions to statuses and texts."""

import base64
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import quote

from starlette.responses import Response

from pipeline.timing import StageTime
from pipeline.types import Detection
from server import errors
from server.api.contract import credits_text
from server.types import ImageFormat, Outcome

JSON = "application/json"
_SERVER_ERROR = 500
# Characters of a prompt in a header, of which proxies take some thousands.
_MOST_UNREAD = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """The answer to one kind of exception.

    `{}` in `text` stands for the exception's own text. `retry_after_s` 0: no `Retry-After` header.
    """

    status: int
    text: str
    retry_after_s: float = 0


ERRORS: Mapping[type[Exception], Row] = {
    errors.BadParameter: Row(400, "{}"),
    errors.BadImage: Row(400, "Invalid image: {}"),
    errors.MissingKey: Row(401, "Missing Authorization or x-api-key in header"),
    errors.BadKey: Row(401, "Unauthorized. API key is invalid or may have expired"),
    errors.UnknownPath: Row(404, "The requested URL does not exist"),
    errors.UnknownRequest: Row(404, "Request {} not found"),
    errors.WrongMethod: Row(405, "Method Not Allowed"),
    errors.BadEncoding: Row(415, "Content-Encoding should be gzip or deflate"),
    errors.NotEnoughCredits: Row(406, "Not enough credits"),
    errors.BadContentType: Row(406, "Invalid content type"),
    errors.KeyReused: Row(409, "Idempotency-Key was used with another request"),
    errors.Cancelled: Row(409, "Request was cancelled"),
    errors.TooLarge: Row(413, "Invalid image: {}"),
    errors.BadRange: Row(400, "Range should be bytes=FIRST-LAST"),
    errors.BeyondEnd: Row(416, "Range lies beyond the end of the file"),
    errors.RateLimited: Row(429, "Rate limit exceeded", retry_after_s=60),
    errors.Busy: Row(429, "Server is busy", retry_after_s=5),
    errors.Starting: Row(503, "Server is starting", retry_after_s=2),
    errors.StorageAway: Row(503, "The server's storage is not available", retry_after_s=5),
    errors.StorageFull: Row(503, "The server's storage is full", retry_after_s=60),
    errors.NoWorker: Row(503, "No worker is available", retry_after_s=10),
    errors.TimedOut: Row(504, "Request timed out"),
    errors.NoMemory: Row(_SERVER_ERROR, "Not enough memory on the device"),
    errors.StoredFailure: Row(_SERVER_ERROR, "{}"),
    Exception: Row(_SERVER_ERROR, "Internal Server Error"),
}

_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"
# Flask's default page, which the hosted service's gateway answers with.
_WRONG_METHOD_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n"
    "<h1>Method Not Allowed</h1>\n"
    "<p>The method is not allowed for the requested URL.</p>\n"
)


@dataclass(slots=True)
class Call:
    """One HTTP request. `id`: 32 lower-case hex digits. `remaining`: the account's credits.

    For the log, as far as it is known: `account_id`; `faces`, how many were detailed or found;
    `cost`, what was charged; `error`, why it failed; `stages`, of the work.
    """

    id: str
    started_s: float
    remaining: Decimal = Decimal(0)
    account_id: int | None = None
    faces: int | None = None
    cost: Decimal | None = None
    error: str | None = None
    stages: tuple[StageTime, ...] = ()

    def headers(self) -> dict[str, str]:
        """The headers of every reply to this request."""
        return {
            "X-remaining-credits": credits_text(self.remaining),
            "X-generation-time": str(round(time.perf_counter() - self.started_s, 3)),
            "X-Request-ID": self.id,
            "X-Content-Type-Options": "nosniff",
        }


def row_of(error: Exception) -> Row:
    """The table's row for the nearest of the exception's classes."""
    return next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)


def is_fault(error: Exception) -> bool:
    """Whether the error is of this server's own work, and no answer that it means to give."""
    return isinstance(error, errors.WorkFailed) or not isinstance(error, errors.ServerError)


def in_log(error: Exception) -> str:
    """What the log says of an error: its class, and its text where the server made that."""
    name = type(error).__name__
    return name if is_fault(error) else f"{name} {error}".rstrip()


def json_text(body: Mapping[str, object]) -> str:
    """JSON as the hosted service writes it: two spaces of indent, a newline at the end."""
    return json.dumps(body, indent=2) + "\n"


def json_reply(body: Mapping[str, object], call: Call, status: int = 200) -> Response:
    """A body in JSON under the call's headers."""
    return Response(json_text(body), status, call.headers(), media_type=JSON)


def error_reply(error: Exception, call: Call) -> Response:
    """The answer to an exception."""
    row = row_of(error)
    if isinstance(error, errors.StoredFailure):
        again_s = ERRORS[errors.StorageAway].retry_after_s if error.status == errors.PASSING else 0
        row = Row(error.status, "{}", again_s)
    headers = call.headers()
    if isinstance(error, errors.WrongMethod):
        headers |= {"Allow": error.allow, "Content-Security-Policy": _PAGE_POLICY}
        headers["Referrer-Policy"] = "no-referrer"
        return Response(_WRONG_METHOD_PAGE, row.status, headers, media_type="text/html")
    if isinstance(error, errors.BadEncoding):
        headers["Accept-Encoding"] = "gzip, deflate"
    if isinstance(error, errors.BeyondEnd):
        headers["Content-Range"] = error.content_range
    retry_after_s = getattr(error, "retry_after_s", row.retry_after_s)
    if row.retry_after_s:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if row.status == 429:
        reset_at = datetime.now(UTC) + timedelta(seconds=retry_after_s)
        headers["x-rate-limit-reset-at-utc"] = reset_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    body = json_text({"error": row.text.format(error)})
    return Response(body, row.status, headers, media_type=JSON)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of a call, and how it is to be told. `seed`: as sent or drawn, of any size."""

    outcome: Outcome
    as_base64: bool
    image_format: ImageFormat
    seed: int
    cost: Decimal


def picture_reply(delivery: Delivery, call: Call) -> Response:
    """The answer to a finished job: the first picture's bytes, or all in JSON as base64."""
    outcome = delivery.outcome
    size = {
        "height": outcome.height_px,
        "samples": len(outcome.pictures),
        "width": outcome.width_px,
    }
    headers = call.headers() | {
        "X-output-metadata": repr(size),
        "x-cost": credits_text(delivery.cost),
        "x-seed-value": str(delivery.seed),
        "X-Faces-Found": str(outcome.report.found),
        "X-Faces-Detailed": str(outcome.report.detailed),
        "X-Faces-Unchanged": str(outcome.report.unchanged),
    }
    if outcome.report.left_out:
        headers["X-Faces-Left-Out"] = outcome.report.left_out_text
    if outcome.report.identity:
        headers["X-Faces-Identity"] = outcome.report.identity_text
    if outcome.report.note:
        headers["X-Profile-Note"] = outcome.report.note
    if unread := outcome.report.unread:
        headers["X-Prompt-Unread"] = quote(" | ".join(unread)[:_MOST_UNREAD], safe=" ,|")
    if not delivery.as_base64:
        media_type = f"image/{delivery.image_format}"
        return Response(outcome.pictures[0], headers=headers, media_type=media_type)
    encoded = [base64.b64encode(picture).decode("ascii") for picture in outcome.pictures]
    # `image` alone for one sample: an old client slices it out of the body by position.
    body: dict[str, object] = {"image": encoded[0]}
    if len(encoded) > 1:
        body["images"] = encoded
    return Response(json_text(body), headers=headers, media_type=JSON)


def detect_reply(outcome: Outcome, call: Call) -> Response:
    """The faces that would be detailed, in order, then the rejected detections and why.

    Boxes are x0, y0, x1, y1 in the input's pixels.
    """
    rejected = [
        _face(detection) | {"reason": detection.rejected}
        for detection in outcome.detections
        if detection.rejected
    ]
    body: dict[str, object] = {
        "width": outcome.width_px,
        "height": outcome.height_px,
        "faces": [
            _face(detection) for detection in outcome.detections if detection.rejected is None
        ],
        "rejected": rejected,
        # What clients of earlier versions read.
        "left_out": rejected,
    }
    if outcome.pictures:
        body["overlay"] = base64.b64encode(outcome.pictures[0]).decode("ascii")
    headers = call.headers() | {"x-cost": credits_text(call.cost or Decimal(0))}
    return Response(json_text(body), headers=headers, media_type=JSON)


def _face(detection: Detection) -> dict[str, object]:
    box = detection.box
    return {
        "box": [round(value, 1) for value in (box.x0, box.y0, box.x1, box.y1)],
        "score": round(box.score, 3),
        "quarter_turns": box.quarter_turns,
    }


def credits_reply(call: Call) -> Response:
    """The credits that the key's account has left."""
    body = f'{{"credits": {credits_text(call.remaining)}, "free-credits": 0.0}}'
    return Response(body, headers=call.headers(), media_type=JSON)


def state_reply(status: str, call: Call) -> Response:
    """The answer to a probe."""
    return json_reply({"status": status}, call)
