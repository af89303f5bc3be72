"""The bytes and headers of every reply, and the one table from exception to status and text."""

import base64
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from starlette.responses import Response

from pipeline.types import Find
from server import errors
from server.contract import credits_text
from server.types import ImageFormat, Outcome

JSON = "application/json"
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Row:
    """An answer. `{}` in `text` is the exception's own. `retry_after_s` 0: no such header."""

    status: int
    text: str
    retry_after_s: float = 0


ERRORS: Mapping[type[Exception], Row] = {
    errors.BadParameter: Row(400, "{}"),
    errors.BadImage: Row(400, "Invalid image: {}"),
    errors.MissingKey: Row(401, "Missing Authorization or x-api-key in header"),
    errors.BadKey: Row(401, "Unauthorized. API key is invalid or may have expired"),
    errors.UnknownPath: Row(404, "The requested URL does not exist"),
    errors.WrongMethod: Row(405, "Method Not Allowed"),
    errors.NotEnoughCredits: Row(406, "Not enough credits"),
    errors.BadContentType: Row(406, "Invalid content type"),
    errors.TooLarge: Row(413, "Invalid image: {}"),
    errors.RateLimited: Row(429, "Rate limit exceeded", retry_after_s=60),
    errors.Busy: Row(429, "Server is busy", retry_after_s=5),
    errors.Starting: Row(503, "Server is starting", retry_after_s=2),
    errors.NoWorker: Row(503, "No worker is available", retry_after_s=10),
    errors.TimedOut: Row(504, "Request timed out"),
    errors.NoMemory: Row(_SERVER_ERROR, "Not enough memory on the device"),
    Exception: Row(_SERVER_ERROR, "Internal Server Error"),
}

# Flask's default page, which the hosted service's gateway answers with.
_WRONG_METHOD_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n"
    "<h1>Method Not Allowed</h1>\n"
    "<p>The method is not allowed for the requested URL.</p>\n"
)


@dataclass(slots=True)
class Call:
    """One HTTP request. `id`: 32 lower-case hex digits. `remaining`: the account's credits."""

    id: str
    started_s: float
    remaining: Decimal = Decimal(0)

    def headers(self) -> dict[str, str]:
        """What every reply to this request carries."""
        return {
            "X-remaining-credits": credits_text(self.remaining),
            "X-generation-time": str(round(time.perf_counter() - self.started_s, 3)),
            "X-Request-ID": self.id,
        }


def row_of(error: Exception) -> Row:
    """The table's row for the nearest of the exception's classes."""
    return next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)


def json_text(body: Mapping[str, object]) -> str:
    """JSON as the hosted service writes it: two spaces of indent, a newline at the end."""
    return json.dumps(body, indent=2) + "\n"


def error_reply(error: Exception, call: Call) -> Response:
    """The answer to an exception."""
    row = row_of(error)
    headers = call.headers()
    if isinstance(error, errors.WrongMethod):
        headers["Allow"] = error.allow
        return Response(_WRONG_METHOD_PAGE, row.status, headers, media_type="text/html")
    retry_after_s = getattr(error, "retry_after_s", row.retry_after_s)
    if row.retry_after_s:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if row.status == 429:
        reset_at = datetime.now(UTC) + timedelta(seconds=retry_after_s)
        headers["x-rate-limit-reset-at-utc"] = reset_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    body = json_text({"error": row.text.format(error)})
    return Response(body, row.status, headers, media_type=JSON)


def picture_reply(
    outcome: Outcome,
    call: Call,
    *,
    as_base64: bool,
    image_format: ImageFormat,
    seed: int,
    cost: Decimal,
) -> Response:
    """The answer to a finished job: the first picture's bytes, or all in JSON as base64."""
    size = {
        "height": outcome.height_px,
        "samples": len(outcome.pictures),
        "width": outcome.width_px,
    }
    headers = call.headers() | {
        "X-output-metadata": repr(size),
        "x-cost": credits_text(cost),
        "x-seed-value": str(seed),
        "X-Faces-Kept": str(outcome.kept),
    }
    if not as_base64:
        media_type = f"image/{image_format}"
        return Response(outcome.pictures[0], headers=headers, media_type=media_type)
    encoded = [base64.b64encode(picture).decode("ascii") for picture in outcome.pictures]
    # `image` alone for one sample: an old client slices it out of the body by position.
    body: dict[str, object] = {"image": encoded[0]}
    if len(encoded) > 1:
        body["images"] = encoded
    return Response(json_text(body), headers=headers, media_type=JSON)


def detect_reply(outcome: Outcome, call: Call) -> Response:
    """What was found: the faces that would be detailed, in order, then what was left out and why.

    Boxes are x0, y0, x1, y1 in the input's pixels.
    """
    body: dict[str, object] = {
        "width": outcome.width_px,
        "height": outcome.height_px,
        "faces": [_face(find) for find in outcome.finds if find.left_out is None],
        "left_out": [
            _face(find) | {"reason": find.left_out} for find in outcome.finds if find.left_out
        ],
    }
    if outcome.pictures:
        body["overlay"] = base64.b64encode(outcome.pictures[0]).decode("ascii")
    headers = call.headers() | {"x-cost": credits_text(Decimal(0))}
    return Response(json_text(body), headers=headers, media_type=JSON)


def _face(find: Find) -> dict[str, object]:
    box = find.box
    return {
        "box": [round(value, 1) for value in (box.x0, box.y0, box.x1, box.y1)],
        "score": round(box.score, 3),
        "quarter_turns": box.quarter_turns,
    }


def credits_reply(call: Call) -> Response:
    """What an account has left."""
    body = f'{{"credits": {credits_text(call.remaining)}, "free-credits": 0.0}}'
    return Response(body, headers=call.headers(), media_type=JSON)


def state_reply(status: str, call: Call) -> Response:
    """What the probes are told."""
    return Response(json_text({"status": status}), headers=call.headers(), media_type=JSON)
