"""The schemas of the OpenAPI document: of requests, made from their fields; replies; headers."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from pipeline.report import Judgement
from server.api.fields import LONGEST_TEXT, Field, Kind
from server.settings import Settings
from server.types import JobState

Schema = dict[str, Any]

_TYPES: Final[Mapping[Kind, str]] = {
    "image": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "choice": "string",
}
_BOUNDS: Final[Mapping[Kind, Schema]] = {"text": {"maxLength": LONGEST_TEXT}}
_IN_JSON: Final = " An http(s) URL, base64, or a `data:` URI."
_IN_A_FORM: Final = " A file; or, as in JSON, a URL, base64 or a `data:` URI as text."


def body_schema(fields: Iterable[Field], settings: Settings, *, form: bool) -> Schema:
    """The schema of a request's body. `form`: of its multipart form, where pictures are files.

    Types are what a client should send. The server also takes numbers and booleans as text, and
    null for a field that is absent; a schema of that would give clients nothing but text.
    """
    fields = tuple(fields)
    return {
        "type": "object",
        "required": [field.name for field in fields if field.required],
        "properties": {field.name: field_schema(field, settings, form=form) for field in fields},
    }


def field_schema(field: Field, settings: Settings, *, form: bool = False) -> Schema:
    """The schema of one field: type, text, range or choices, default; an example if required."""
    schema = {"type": _TYPES[field.kind], "description": field.help, **_BOUNDS.get(field.kind, {})}
    if field.kind == "image":
        schema["description"] += _IN_A_FORM if form else _IN_JSON
        schema |= {"format": "binary"} if form else {"minLength": 1}
    if field.pattern is not None:
        schema["pattern"] = field.pattern
    if field.choices:
        numeric = all(choice.isdecimal() for choice in field.choices)
        schema["type"] = "integer" if numeric else "string"
        schema["enum"] = [int(choice) if numeric else choice for choice in field.choices]
    if field.low is not None:
        schema["minimum"] = field.low
    if field.high is not None:
        schema["maximum"] = field.high
    default = field.default
    if field.setting is not None:
        default = getattr(settings, field.setting)
        if field.capped:
            schema["maximum"] = default
    if default not in (None, ""):
        schema["default"] = default
    # The page fills forms in with examples: what nobody asked for is not sent.
    if field.required and not (form and field.kind == "image"):
        schema["examples"] = [field.example]
    return schema


def _text(description: str, **more: object) -> Schema:
    return {"type": "string", "description": description, **more}


def _number(description: str, **more: object) -> Schema:
    return {"type": "number", "description": description, **more}


def _count(description: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": description}


def _url(description: str) -> Schema:
    return _text(description, format="uri")


def _base64(description: str) -> Schema:
    return _text(description, contentEncoding="base64")


def _object(*optional: str, **properties: object) -> Schema:
    """An object with these properties, all of them required but the `optional` ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def ref(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


_BOX: Final[Schema] = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 4,
    "maxItems": 4,
    "description": "x0, y0, x1, y1 in pixels of the picture.",
}
_FACE: Final[Mapping[str, Schema]] = {
    "box": _BOX,
    "score": _number("How sure the detector is.", minimum=0, maximum=1),
    "quarter_turns": {
        "type": "integer",
        "minimum": 0,
        "maximum": 3,
        "description": "Counter-clockwise turns by 90° that bring the face upright.",
    },
}
_ID: Final = _text("The request's id.", format="uuid")
_STATE: Final = {**_text("How far the request is."), "enum": [str(state) for state in JobState]}
_ENDED: Final = {**_STATE, "enum": [str(JobState.COMPLETED), str(JobState.FAILED)]}
_URLS: Final[Mapping[str, Schema]] = {
    "status_url": _url("Where to ask how far it is."),
    "response_url": _url("Where the result will be."),
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Error": _object(error=_text("What is wrong.")),
    "Picture": _object(
        "images",
        image=_base64("The first picture, without a `data:` prefix."),
        images=_list(_base64("A picture."), "All pictures, if there are several samples."),
    ),
    "Face": _object(**_FACE),
    "RejectedFace": _object(**_FACE, reason=_text("Why it does not count.")),
    "Detections": _object(
        "overlay",
        width=_count("The picture's width in pixels."),
        height=_count("The picture's height in pixels."),
        faces=_list(ref("Face"), "The faces that would be detailed, in order."),
        rejected=_list(ref("RejectedFace"), "What does not count as a face."),
        left_out=_list(ref("RejectedFace"), "The same, under the name of earlier versions."),
        overlay=_base64("The picture with everything drawn in, if it was asked for."),
    ),
    "Accepted": _object(
        request_id=_ID,
        status=_STATE,
        **_URLS,
        poll_url=_url("The same as `status_url`."),
        cancel_url=_url("Where a POST stops it."),
        events_url=_url("Where its events are streamed."),
    ),
    "Status": _object(
        "error",
        status=_STATE,
        request_id=_ID,
        **_URLS,
        metrics=_object(
            "queue_position", queue_position=_count("How many requests are ahead, while it waits.")
        ),
        error={"type": ["string", "null"], "description": "Why it failed."},
    ),
    "ResultImage": _object(
        url=_url("Where the file is; needs no key."),
        content_type=_text("The file's media type."),
        file_name=_text("The file's name."),
        file_size=_count("The file's size in bytes."),
        width=_count("In pixels."),
        height=_count("In pixels."),
    ),
    "ResultMetrics": _object(
        *("cost", "remaining_credits", "inference_time", "queue_time", "total_time"),
        cost=_number("The credits charged."),
        remaining_credits=_number("The account's remaining credits."),
        inference_time=_number("Seconds of work."),
        queue_time=_number("Seconds of waiting."),
        total_time=_number("Seconds from the request to its end."),
    ),
    "FaceCounts": _object(
        found=_count("Faces in the picture."),
        detailed=_count("Faces that were repainted."),
        left_out={
            "type": "object",
            "description": "Why how many were not.",
            "additionalProperties": {"type": "integer"},
        },
        unchanged=_count("Repaints without a usable result, over all samples."),
    ),
    "FaceIdentity": _object(
        face={"type": "integer", "minimum": 1, "description": "The face, in the faces' order."},
        sample={"type": "integer", "minimum": 1, "description": "The sample."},
        cosine={
            "type": ["number", "null"],
            "minimum": -1,
            "maximum": 1,
            "description": "Between the face before and after its repaint; null: not known.",
        },
        outcome={**_text("What became of the repaint."), "enum": list(get_args(Judgement))},
    ),
    "Result": _object(
        *("faces", "identity", "profile_note", "prompt_unread"),
        status=_ENDED,
        error={"type": ["string", "null"], "description": "Why it failed."},
        request_id=_ID,
        output={"type": ["string", "null"], "description": "The first picture's URL."},
        images=_list(ref("ResultImage"), "One per sample."),
        faces=ref("FaceCounts"),
        identity=_list(ref("FaceIdentity"), "What the identity gate made of the repainted faces."),
        profile_note=_text("What the server's profile does not do."),
        prompt_unread=_list(_text("A text."), "What the model did not read of the prompts."),
        seed={"type": "integer", "description": "The seed that was used."},
        prompt=_text("The prompt that was used."),
        metrics=ref("ResultMetrics"),
    ),
    "StatusOrResult": {"anyOf": [ref("Result"), ref("Status")]},
    "Event": _object(
        type={**_text("What happened."), "enum": ["request.completed", "request.failed"]},
        timestamp=_text("When this was sent.", format="date-time"),
        data=ref("Result"),
    ),
    "UploadRequest": _object(
        data_urls={**_list(_text("A `data:` URI."), "The pictures, in order."), "minItems": 1}
    ),
    "UploadForm": _object(file=_text("A picture's file. More parts may follow.", format="binary")),
    "Uploaded": _object(
        file_urls=_list(_url("Can be sent as `image`."), "One per picture, in order."),
        message=_text("Says that it worked."),
    ),
    "Credits": _object(
        **{
            "credits": _number("The credits left."),
            "free-credits": _number("Always 0 here; for clients of the hosted service."),
        }
    ),
    "State": _object(status=_text("`ok` or `ready`.")),
    "Document": {"type": "object", "description": "This document."},
    "File": {"type": "string", "format": "binary"},
    "Text": {"type": "string"},
    "Events": {"description": "Server-sent events, each with `id`, `event` and JSON `data`."},
}
"""What replies hold, by name; also the two bodies of uploads, which have no table of fields."""


def header(name: str, *, required: bool) -> Schema:
    """How a reply's header is described."""
    schema, example = HEADERS[name]
    described = {"description": schema["description"], "required": required, "example": example}
    return described | {"schema": {k: v for k, v in schema.items() if k != "description"}}


HEADERS: Final[Mapping[str, tuple[Schema, object]]] = {
    "X-remaining-credits": (_number("The account's remaining credits."), 615.9801263243),
    "X-generation-time": (_number("Seconds from the request to the reply."), 3.484),
    "X-Request-ID": (
        _text("Identifies the request in the log.", pattern="^[0-9a-f]{32}$"),
        "5f0c8d1e2b3a49768a9bacbdcedfe0f1",
    ),
    "X-output-metadata": (
        _text("The picture's size and the number of samples, as Python writes a dict."),
        "{'height': 1536, 'samples': 1, 'width': 1024}",
    ),
    "x-cost": (_number("The credits charged for this call."), 0.01),
    "x-seed-value": ({"type": "integer", "description": "The seed that was used."}, 12467),
    "X-Faces-Unchanged": (_count("Faces for which the model returned nothing usable."), 0),
    "X-Faces-Found": (_count("Faces in the picture."), 3),
    "X-Faces-Detailed": (_count("Faces that were repainted."), 1),
    "X-Faces-Left-Out": (_text("Why how many faces were not repainted."), "size=1, budget=1"),
    "X-Faces-Identity": (
        _text("What the identity gate made of each repainted face, and its cosine."),
        "1:kept=0.873, 1/2:weaker=0.702",
    ),
    "X-Prompt-Unread": (_text("What the model did not read, percent-encoded."), "a hat"),
    "X-Profile-Note": (_text("What the server's profile does not do."), "A note."),
    "Retry-After": (_count("Seconds until it makes sense to try again."), 5),
    "x-rate-limit-reset-at-utc": (
        _text("The same as a point in time.", format="date-time"),
        "2026-01-31T12:00:00Z",
    ),
    "Allow": (_text("The methods that the path has."), "POST"),
    "Cache-Control": (_text("How long the reply may be kept."), "private, max-age=3600, immutable"),
    "X-Accel-Buffering": (_text("Tells nginx to pass events on at once."), "no"),
    "Accept-Ranges": (_text("Says that parts can be asked for."), "bytes"),
    "Content-Security-Policy": (
        _text("What the page may load: nothing from another host."),
        "default-src 'none'; script-src 'self'",
    ),
    "Referrer-Policy": (_text("That the page names itself to nobody."), "no-referrer"),
    "X-Content-Type-Options": (_text("That types are as they are named."), "nosniff"),
    "Content-Range": (_text("Which part this is."), "bytes 0-99/214853"),
    "Accept-Encoding": (_text("How a body may be compressed."), "gzip, deflate"),
}
"""The schema and an example of every header that replies carry."""
