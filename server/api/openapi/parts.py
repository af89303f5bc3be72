"""What the table of operations is made of: an operation, a reply, examples of errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from server import errors
from server.api.contract import mebibytes
from server.api.fields import NOT_A_NUMBER, Field, not_allowed, not_boolean, not_whole, out_of_range
from server.api.openapi.samples import REQUEST_ID, RESULT_FOLDER
from server.api.openapi.schemas import Schema

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that is no error of `server.api.replies.ERRORS`.

    `content`: names of schemas by media type. `samples`: names of the samples that are examples of
    its first media type, and that tell its headers; `headers`: their names where there is none.
    `links`: ids of operations that take the `request_id` in its body.
    """

    text: str
    content: Mapping[str, str]
    samples: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    status: int = 200


@dataclass(frozen=True, slots=True)
class Operation:
    """One call.

    `methods` and `path`: as in the application's table. `fields`: of its request's body, or `body`:
    names of schemas by media type. `headers`: names in `PARAMETERS`, as are those in braces in
    `path`. `errors`: an example of each, besides those that every call has.
    """

    methods: str
    path: str
    id: str
    tag: str
    summary: str
    replies: tuple[Reply, ...]
    text: str = ""
    keyed: bool = True
    fields: tuple[Field, ...] = ()
    body: Mapping[str, str] | None = None
    headers: tuple[str, ...] = ()
    errors: tuple[Exception, ...] = ()


def json_reply(text: str, schema: str, *samples: str, status: int = 200) -> Reply:
    """A reply of JSON."""
    return Reply(text, {JSON: schema}, samples, status=status)


def bad_fields(fields: tuple[Field, ...]) -> tuple[Exception, ...]:
    """An example of each way in which a request's fields can be wrong."""
    kinds = {field.kind: field for field in reversed(fields) if not field.required}
    ranged = next(field for field in fields if field.low is not None)
    texts = [
        *(field.missing for field in fields if field.missing),
        NOT_A_NUMBER,
        not_whole(kinds["int"].name),
        out_of_range(ranged),
        not_allowed(kinds["choice"]),
        not_boolean(kinds["bool"].name),
    ]
    return tuple(errors.BadParameter(text) for text in texts)


ALWAYS: Final = (errors.WrongMethod("POST"), Exception())
"""Every call can end so,"""

WITH_KEY: Final = (errors.MissingKey(), errors.BadKey(), errors.StorageAway())
"""every one that needs a key,"""

PICTURE: Final = (
    errors.BadContentType(),
    errors.BadEncoding(),
    errors.BadImage("the file is empty"),
    errors.TooLarge(f"the file is larger than {mebibytes(50 * 2**20)}"),
    errors.RateLimited(60),
    errors.Busy(),
)
"""every one that brings a picture,"""

WORK: Final = (
    errors.Starting(),
    errors.NoWorker(),
    errors.TimedOut(),
    errors.NoMemory(),
)
"""every one that waits for work to be done,"""

REPEATABLE: Final = (errors.NotEnoughCredits(), errors.KeyReused(), errors.StorageFull())
"""every one that costs something and may be sent again,"""

UNKNOWN: Final = errors.UnknownRequest(REQUEST_ID)
"""and every one about a request."""


def _parameter(place: str, text: str, schema: Schema, example: object) -> Schema:
    required = place == "path"
    about = {"in": place, "required": required, "description": text, "schema": schema}
    return about if example is None else about | {"example": example}


def _string(pattern: str, **more: object) -> Schema:
    return {"type": "string", "pattern": pattern, **more}


PARAMETERS: Final[Mapping[str, Schema]] = {
    "request_id": _parameter(
        "path",
        "As `POST /v2/face-detailer` gave it.",
        {"type": "string", "format": "uuid"},
        REQUEST_ID,
    ),
    "token": _parameter(
        "path",
        "A part of the URL in the result.",
        _string("^[A-Za-z0-9_-]{32}$"),
        RESULT_FOLDER,
    ),
    "name": _parameter(
        "path", "The file's name.", _string(r"^[0-9]{1,2}\.(jpg|png|webp)$"), "0.jpg"
    ),
    "asset": _parameter("path", "The file's name.", _string(r"^[\w.-]+$"), "swagger-ui.css"),
    "Idempotency-Key": _parameter(
        "header",
        "Sent again with the same key and fields, a request is the same work and one charge.",
        _string("^[!-~]+$", maxLength=255),
        None,
    ),
    "Last-Event-ID": _parameter(
        "header",
        "The last event that was received; the stream goes on from there.",
        _string("^[0-9]{1,10}$"),
        None,
    ),
    "Range": _parameter(
        "header", "Which bytes are wanted.", _string("^bytes=[0-9]+-[0-9]*$"), None
    ),
}
"""What calls take besides a body, by name."""
