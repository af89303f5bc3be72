"""The OpenAPI document, put together from the tables of operations, fields, errors and headers."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from starlette.responses import Response

from server.api.contract import KEY_HEADER, METRICS_PATH
from server.api.openapi.operations import OPERATIONS
from server.api.openapi.parts import (
    ALWAYS,
    FORM,
    JSON,
    PARAMETERS,
    WITH_KEY,
    Operation,
    Reply,
)
from server.api.openapi.samples import CALL, samples
from server.api.openapi.schemas import HEADERS, SCHEMAS, Schema, body_schema, header, ref
from server.api.replies import error_reply
from server.settings import Settings

_ABOUT: Final = """\
Details the faces of pictures, as Segmind's hosted service does: the same paths, fields, replies and
error texts. `/v1` waits for the work, `/v2` queues it.

Numbers and booleans may also be sent as text (`"25"`, `"0.4"`, `"False"`), a null field counts as
absent, and unknown fields are ignored. Every error has the body `{"error": "<text>"}` and costs
nothing, except that a wrong method (405) is answered with an HTML page."""
_TAGS: Final = {
    "faces": "One call, one picture.",
    "queue": "Requests whose work comes later, and the pictures and results that they need.",
    "account": "The key's account.",
    "probes": "For load balancers.",
    "pages": "For people: a page to work on, and this document.",
}
_PLAIN_HEADERS: Final = frozenset({"content-length", "content-type"})
# Not on every reply of their kind.
_OPTIONAL_HEADERS: Final = frozenset(
    {
        *("X-Faces-Left-Out", "X-Faces-Identity", "X-Profile-Note", "X-Prompt-Unread"),
        "Retry-After",
    }
)


def document(settings: Settings) -> dict[str, Any]:
    """The document of a server with these settings, but for `servers`."""
    answers = samples(settings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "face-detailer",
            "version": version("face-detailer"),
            "description": _ABOUT,
            "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
        },
        "x-server": _server(settings),
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(answers, _served(settings)),
        "webhooks": {"request_ended": {"post": _webhook(answers["result"])}},
        "components": {
            "schemas": {**_bodies(settings), **SCHEMAS},
            "headers": {
                name: header(name, required=name not in _OPTIONAL_HEADERS) for name in HEADERS
            },
            "parameters": {name: {"name": name, **about} for name, about in PARAMETERS.items()},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _server(settings: Settings) -> dict[str, Any]:
    """What a client may want to know before it sends a picture, and no field's schema says."""
    return {
        "max_body_bytes": settings.max_body_bytes,
        "max_image_pixels": settings.max_image_pixels,
        "max_side_px": settings.max_side_px,
        "prices": {
            "call": float(settings.cost_per_call),
            "sample": float(settings.cost_per_sample),
            "face": float(settings.cost_per_face),
            "megapixel": float(settings.cost_per_megapixel),
            "step": float(settings.cost_per_step),
            "detection": float(settings.cost_per_detection),
        },
    }


def _bodies(settings: Settings) -> dict[str, Schema]:
    return {
        name: body_schema(operation.fields, settings, form=media_type == FORM)
        for operation in OPERATIONS
        if operation.fields
        for media_type, name in _body_names(operation).items()
    }


def _body_names(operation: Operation) -> Mapping[str, str]:
    """The names of the schemas of an operation's body, by media type."""
    if operation.body is not None:
        return operation.body
    name = "".join(word.capitalize() for word in operation.id.split("_"))
    return {JSON: f"{name}Body", FORM: f"{name}Form"} if operation.fields else {}


def _served(settings: Settings) -> list[Operation]:
    """The operations of a server with these settings."""
    token = settings.metrics_token is not None
    return [
        replace(operation, keyed=token) if operation.path == METRICS_PATH else operation
        for operation in OPERATIONS
        if settings.metrics or operation.path != METRICS_PATH
    ]


def _paths(
    examples: Mapping[str, Response], operations: Iterable[Operation]
) -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in operations:
        for method in operation.methods.split():
            described = _operation(operation, examples)
            if method == "HEAD":
                described["operationId"] += "_head"
                for response in described["responses"].values():
                    response.pop("content", None)
            paths[operation.path][method.lower()] = described
    return dict(paths)


def _operation(operation: Operation, examples: Mapping[str, Response]) -> dict[str, Any]:
    named = [*re.findall(r"{(\w+)}", operation.path), *operation.headers]
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.text,
        "security": [{"key": []}, {"bearer": []}] if operation.keyed else [],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in named],
        "responses": _responses(operation, examples),
    }
    content: dict[str, Any] = {
        kind: {"schema": ref(name)} for kind, name in _body_names(operation).items()
    }
    if operation.fields:
        required = [field for field in operation.fields if field.required]
        content[JSON]["example"] = {field.name: field.example for field in required}
    if content:
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(operation: Operation, examples: Mapping[str, Response]) -> dict[str, Any]:
    responses = {str(reply.status): _reply(reply, examples) for reply in operation.replies}
    errors = (*operation.errors, *(WITH_KEY if operation.keyed else ()), *ALWAYS)
    by_status: dict[int, dict[str, Response]] = defaultdict(dict)
    for error in errors:
        reply = error_reply(error, CALL)
        name = type(error).__name__ if type(error) is not Exception else "Failure"
        replies = by_status[reply.status_code]
        count = sum(key.startswith(name) for key in replies)
        replies[f"{name}{count + 1}" if count else name] = reply
    for status, replies in by_status.items():
        responses.setdefault(str(status), _error(status, replies))
    return dict(sorted(responses.items()))


def _reply(reply: Reply, examples: Mapping[str, Response]) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": ref(name)} for kind, name in reply.content.items()}
    first = next(iter(content.values()))
    if reply.samples:
        first["examples"] = {name: {"value": _value(examples[name])} for name in reply.samples}
    headers = {name: None for sample in reply.samples for name in _headers(examples[sample])}
    described = {
        "description": reply.text,
        "headers": _header_refs([*headers, *reply.headers]),
        "content": content,
    }
    if reply.links:
        taken = {"request_id": "$response.body#/request_id"}
        described["links"] = {
            name: {"operationId": name, "parameters": taken} for name in reply.links
        }
    return described


def _error(status: int, replies: Mapping[str, Response]) -> dict[str, Any]:
    headers = {name: None for reply in replies.values() for name in _headers(reply)}
    some = next(iter(replies.values()))
    examples = {name: {"value": _value(reply)} for name, reply in replies.items()}
    schema = ref("Error" if some.media_type == JSON else "Text")
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _header_refs(headers),
        "content": {str(some.media_type): {"schema": schema, "examples": examples}},
    }


def _headers(reply: Response) -> list[str]:
    """The names of a reply's own headers, as the table writes them."""
    known = {name.lower(): name for name in HEADERS}
    return [known[name] for name in reply.headers if name not in _PLAIN_HEADERS]


def _header_refs(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _value(reply: Response) -> object:
    text = bytes(reply.body).decode()
    return json.loads(text) if reply.media_type == JSON else text


def _webhook(result: Response) -> dict[str, Any]:
    example = {
        "type": "request.completed",
        "timestamp": "2026-01-31T12:00:00+00:00",
        "data": _value(result),
    }
    return {
        "operationId": "request_ended",
        "tags": ["queue"],
        "summary": "A request has ended",
        "description": "Sent to `webhook_url`, signed as Standard Webhooks describes.",
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": ref("Event"), "example": example}},
        },
        "responses": {"2XX": {"description": "It was received; otherwise it is sent again."}},
    }
