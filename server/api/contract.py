"""The wire contract of `POST /v1/face-detailer` as data.

The fields stand in these tables alone: requests are read by them, and the command line's flags and
the tables of docs/api.md are made from them.
"""

from dataclasses import replace
from decimal import Decimal

from server.api.fields import Field

PATH = "/v1/face-detailer"
DETECT_PATH = "/v1/face-detailer/detect"
CREDITS_PATH = "/v1/get-user-credits"
V2_PATH = "/v2/face-detailer"
REQUESTS_PATH = "/v2/requests"
RESULTS_PATH = "/v2/results"
ASSETS = "/v2/assets"
UPLOAD_PATH = "/upload-asset"
HEALTH_PATH = "/health"
READY_PATH = "/ready"
METRICS_PATH = "/metrics"
PAGE_PATH = "/"
PAGE_FILES_PATH = "/page"
OPENAPI_PATH = "/openapi.json"
DOCS_PATH = "/docs"
KEY_HEADER = "x-api-key"

DRAW_SEED = -1
"""The seed that asks the server to draw one."""

SEEDS = 2**63
"""The pipeline's seeds are in [0, SEEDS); a seed beyond is taken modulo this."""

HOSTED_FIELDS = (
    Field(
        "image",
        "image",
        "The picture whose faces are detailed.",
        missing="Image is Mandatory and must be provided",
        example="https://example.com/portrait.jpg",
    ),
    Field(
        "prompt",
        "text",
        "What the faces should look like; may be empty.",
        missing="Prompt is Mandatory and must be string",
        example="detailed face",
    ),
    Field("negative_prompt", "text", "What to avoid.", default="bad quality, painting, blur"),
    Field(
        "samples",
        "int",
        "How many variants; sample i, counted from 0, uses `seed` + i.",
        default=1,
        low=1,
        high=4,
    ),
    Field(
        "num_inference_steps",
        "int",
        "Denoising steps of each pass. All of them are run, but profiles of few steps run a share "
        "(`tiny`: one).",
        default=20,
        low=15,
        high=75,
    ),
    Field(
        "guidance_scale",
        "float",
        "How closely the prompts are followed.",
        default=6.0,
        low=5,
        high=10,
    ),
    Field(
        "seed",
        "int",
        "On a CPU the same request with the same seed gives the same bytes; `-1` draws a seed.",
        default=12467,
    ),
    Field(
        "denoise",
        "float",
        "How much a face may change. 0 changes nothing; 0.4 is usual.",
        missing="Denoise is Mandatory and must be a number",
        low=0,
        high=1,
        example=0.4,
    ),
    Field(
        "image_format",
        "choice",
        "Format of the result; `jpg` is taken as `jpeg`.",
        default="jpeg",
        choices=("jpeg", "png", "webp"),
        aliases={"jpg": "jpeg"},
    ),
    Field(
        "image_quality",
        "int",
        "Quality of JPEG and WebP; no effect on PNG.",
        default=95,
        low=10,
        high=100,
    ),
    Field(
        "base64",
        "bool",
        "Whether the reply is JSON with base64, or the picture itself.",
        default=True,
    ),
)
"""The hosted service's fields."""

OWN_FIELDS = (
    Field(
        "upscale",
        "choice",
        "Output size over input size: the largest factor up to this one with which no side is "
        "longer than the server or the format allows.",
        setting="upscale",
        choices=("1", "2", "4"),
    ),
    Field(
        "passes",
        "choice",
        "Outline pass and detail pass, detail alone, or the outline only where a face is badly "
        "damaged.",
        default="both",
        choices=("both", "detail", "auto"),
    ),
    Field(
        "keep_healthy",
        "bool",
        "Large, sharp faces are changed less than `denoise` says, down to half, so that identity "
        "and expression stay.",
        default=True,
    ),
    Field(
        "keep_grain",
        "bool",
        "In a grainy picture, repainted faces get as much grain as there is around them; false: "
        "they become smooth.",
        default=True,
    ),
    Field(
        "max_faces",
        "int",
        "Only the largest faces are detailed, at most this many.",
        setting="max_faces",
        capped=True,
        low=0,
        high=1000,
    ),
    Field(
        "min_face_px",
        "float",
        "Faces whose shorter side is smaller stay as they are.",
        setting="min_face_px",
        low=0,
        high=10_000,
    ),
    Field(
        "face_order",
        "choice",
        "The order that `[SEP]` prompts follow.",
        default="size",
        choices=("size", "left-right", "top-bottom", "score"),
    ),
    Field(
        "detection_threshold",
        "float",
        "The score from which a detection counts as a face.",
        setting="detection_threshold",
        low=0,
        high=1,
        example=0.5,
    ),
)
"""The fields that this server adds."""

FIELDS = HOSTED_FIELDS + OWN_FIELDS
"""The fields of `PATH`."""

WEBHOOK = Field(
    "webhook_url",
    "text",
    "Whom to tell, by a signed POST, when the request has ended.",
    default="",
    pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#]+\S*$",
    example="https://example.com/hooks/faces",
)

V2_FIELDS = (*FIELDS, WEBHOOK)
"""The fields of `V2_PATH`."""

OVERLAY = Field(
    "overlay",
    "bool",
    "Whether the reply has a picture with boxes, scores, crops and masks drawn in.",
    default=False,
)

_SHARED_WITH_DETECT = {
    *("image", "image_format", "image_quality"),
    *("max_faces", "min_face_px", "face_order", "detection_threshold"),
}

DETECT_FIELDS = (
    # Looking costs little: the server's limits on work do not hold.
    *(replace(field, capped=False) for field in FIELDS if field.name in _SHARED_WITH_DETECT),
    OVERLAY,
)
"""The fields of `DETECT_PATH`, which repaints nothing."""


def over_budget(steps_per_face: int, max_steps: int) -> str:
    """Not even one face can be repainted within the server's limit on a request's steps."""
    return (
        f"samples, num_inference_steps and passes ask for {steps_per_face} steps a face, "
        f"at most {max_steps} steps a request are allowed"
    )


def too_large_for(image_format: str, max_side_px: int) -> str:
    """The format holds no picture of this size, not even if it is not enlarged."""
    return f"image_format {image_format} holds at most {max_side_px} pixels a side"


def largest_upscale(asked: int, longer_side_px: int, max_side_px: int) -> int:
    """The largest of 4, 2 and 1 up to `asked` with which no side passes `max_side_px`."""
    fitting = (f for f in (4, 2) if f <= asked and f * longer_side_px <= max_side_px)
    return next(fitting, 1)


def credits_text(amount: Decimal) -> str:
    """Credits as on the wire: one to ten decimal places, e.g. `615.9801263243`, `100.0`."""
    whole, _, fraction = f"{amount:.10f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def late_body(timeout_s: float) -> str:
    """The text for a body that takes longer to arrive."""
    return f"The body did not arrive within {timeout_s:g} s"


def mebibytes(size_bytes: int) -> str:
    """A size limit in a sentence, e.g. `50 MiB`."""
    return f"{size_bytes / 2**20:g} MiB" if size_bytes >= 2**20 else f"{size_bytes} bytes"
