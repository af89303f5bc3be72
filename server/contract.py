"""The wire contract of `POST /v1/face-detailer` as data: fields, defaults, ranges and texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["image", "text", "int", "float", "bool", "choice"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the request.

    `default` serves where the field is absent or null and not `required`; None means that the
    server's setting of the same name serves. `low` and `high` bound a number, both included; None
    leaves that side open. `choices`: what a choice may be; `aliases`: other spellings of them.
    """

    name: str
    kind: Kind
    default: str | float | bool | None = None
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    aliases: Mapping[str, str] | None = None


PATH = "/v1/face-detailer"
DETECT_PATH = "/v1/face-detailer/detect"
CREDITS_PATH = "/v1/get-user-credits"
KEY_HEADER = "x-api-key"

DRAW_SEED = -1
"""The seed that asks the server to draw one."""

SEEDS = 2**63
"""The pipeline's seeds are in [0, SEEDS); a seed beyond is taken modulo this."""

FIELDS = (
    Field("image", "image", required=True),
    Field("prompt", "text", required=True),
    Field("negative_prompt", "text", default="bad quality, painting, blur"),
    Field("samples", "int", default=1, low=1, high=4),
    Field("num_inference_steps", "int", default=20, low=15, high=75),
    Field("guidance_scale", "float", default=6.0, low=5, high=10),
    Field("seed", "int", default=12467),
    Field("denoise", "float", required=True, low=0, high=1),
    Field(
        "image_format",
        "choice",
        default="jpeg",
        choices=("jpeg", "png", "webp"),
        aliases={"jpg": "jpeg"},
    ),
    Field("image_quality", "int", default=95, low=10, high=100),
    Field("base64", "bool", default=True),
    # This server's own.
    Field("upscale", "choice", choices=("1", "2", "4")),
    Field("passes", "choice", default="both", choices=("both", "detail", "auto")),
    Field("keep_healthy", "bool", default=True),
    Field("max_faces", "int", low=0, high=1000),
    Field("min_face_px", "float", low=0, high=10_000),
    Field(
        "face_order",
        "choice",
        default="size",
        choices=("size", "left-right", "top-bottom", "score"),
    ),
    Field("detection_threshold", "float", low=0, high=1),
)

_DETECTION = ("max_faces", "min_face_px", "face_order", "detection_threshold")
_OVERLAY = ("image_format", "image_quality")

DETECT_FIELDS = (
    *(field for field in FIELDS if field.name in ("image", *_DETECTION, *_OVERLAY)),
    Field("overlay", "bool", default=False),
)
"""The fields of `DETECT_PATH`, which repaints nothing and costs nothing."""

MANDATORY: Mapping[str, str] = {
    "image": "Image is Mandatory and must be provided",
    "prompt": "Prompt is Mandatory and must be string",
    "denoise": "Denoise is Mandatory and must be a number",
}
NOT_A_NUMBER = "Inputs which are supposed to be numbers are in alphabet"


def not_whole(name: str) -> str:
    """A number with a fraction where a whole one is asked for."""
    return f"{name} should be a whole number"


def out_of_range(field: Field) -> str:
    """A number below or above the field's range."""
    return f"{field.name} should be between {field.low:g} and {field.high:g}"


def not_allowed(field: Field) -> str:
    """None of the field's choices."""
    return f"Invalid {field.name}. Allowed values are {', '.join(map(repr, field.choices))}."


def not_boolean(name: str) -> str:
    """Neither true nor false."""
    return f"{name} should be true or false"


def not_text(name: str) -> str:
    """Something else where a text is asked for."""
    return f"{name} must be string"


def largest_upscale(asked: int, longer_side_px: int, max_side_px: int) -> int:
    """The largest of 4, 2 and 1 up to `asked` with which no side passes `max_side_px`."""
    fitting = (f for f in (4, 2) if f <= asked and f * longer_side_px <= max_side_px)
    return next(fitting, 1)


def credits_text(amount: Decimal) -> str:
    """Credits as on the wire: one to ten decimal places, e.g. `615.9801263243`, `100.0`."""
    whole, _, fraction = f"{amount:.10f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def mebibytes(size_bytes: int) -> str:
    """A size limit in a sentence, e.g. `50 MiB`."""
    return f"{size_bytes / 2**20:g} MiB" if size_bytes >= 2**20 else f"{size_bytes} bytes"
