"""The fields of requests, as keyword arguments. What they mean and their ranges: docs/api.md."""

from collections.abc import Mapping
from typing import Literal, TypedDict


class DetectFields(TypedDict, total=False):
    """What `Client.detect` takes beside the picture; the server has a default for each."""

    max_faces: int
    min_face_px: float
    face_order: Literal["size", "left-right", "top-bottom", "score"]
    detection_threshold: float
    overlay: bool
    image_format: Literal["jpeg", "png", "webp"]
    image_quality: int


class DetailFields(TypedDict, total=False):
    """What `Client.detail` takes beside picture, `prompt` and `denoise`; the server has a default
    for each.
    """

    negative_prompt: str
    samples: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    image_format: Literal["jpeg", "png", "webp"]
    image_quality: int
    upscale: Literal[1, 2, 4]
    passes: Literal["both", "detail", "auto"]
    keep_healthy: bool
    keep_grain: bool
    max_faces: int
    min_face_px: float
    face_order: Literal["size", "left-right", "top-bottom", "score"]
    detection_threshold: float
    webhook_url: str


def check_known(fields: Mapping[str, object], kind: type) -> None:
    """A server ignores names that it does not know: a slip of the pen would be paid for.

    Args:
        fields: by name.
        kind: `DetailFields` or `DetectFields`.

    Raises:
        TypeError: one of them is none of `kind`.
    """
    for name in fields.keys() - kind.__annotations__.keys():
        raise TypeError(f"there is no field {name!r}")


def as_form(fields: Mapping[str, object]) -> dict[str, str]:
    """Values as the text of a form; None is left out."""
    return {name: _text(value) for name, value in fields.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # Half a surrogate pair, as command lines may hold, is no UTF-8.
    return str(value).encode("utf-8", "replace").decode("utf-8")
