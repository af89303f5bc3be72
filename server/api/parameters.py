"""From the values of a request, JSON's or multipart's, to checked parameters.

FastAPI's own validation is not used: fields may also be the text of a form, the first wrong one is
answered in the contract's order and words, and the status is 400, never 422.
"""

import dataclasses
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.encoding import MAX_SIDE_PX
from pipeline.request import Passes, Recipe, Selection
from server.api import contract
from server.api.fields import Field
from server.api.json_bodies import SentImage
from server.api.pictures import reach_of
from server.api.reading import read_value
from server.api.urls import ImpossibleUrl, http_url, literal_address
from server.errors import BadParameter
from server.settings import Settings
from server.types import DetailOptions, DetectOptions, Encoding

_LONGEST_URL = 2000
_DRAWN_SEEDS = 2**32
# "auto" runs the outline pass for some faces only; before the work nobody knows for which.
MOST_PASSES: Final[Mapping[Passes, int]] = {"both": 2, "auto": 2, "detail": 1}
"""How many passes a face takes at most."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """One call's parameters.

    `image`: a URL, base64 or data URI as text, or a file's bytes; not looked at yet.
    `seed`: as sent (or drawn), of any size; `options.recipe.seed` is the pipeline's, in [0, 2⁶³).
    `as_base64`: the reply's form. `asked`: the value of every other field, defaults filled in,
    JSON's own types; a seed to be drawn is still −1.
    """

    image: SentImage
    options: DetailOptions
    seed: int
    as_base64: bool
    asked: Mapping[str, object] = dataclasses.field(repr=False)


def parse(values: Mapping[str, object], settings: Settings) -> Parameters:
    """Check and coerce one request's values; unknown names are ignored, null counts as absent.

    Raises:
        BadParameter: names the first field that is missing, of the wrong type or out of range, or
            says that not even one face can be repainted within `settings.max_request_steps`.
    """
    read = _read(contract.FIELDS, values, settings)
    seed = read["seed"]
    if seed == contract.DRAW_SEED:
        seed = secrets.randbelow(_DRAWN_SEEDS)
    recipe = Recipe(
        prompt=read["prompt"],
        denoise=read["denoise"],
        negative_prompt=read["negative_prompt"],
        samples=read["samples"],
        num_inference_steps=read["num_inference_steps"],
        guidance_scale=read["guidance_scale"],
        seed=seed % contract.SEEDS,
        upscale=int(read["upscale"]),
        passes=read["passes"],
        keep_healthy=read["keep_healthy"],
        keep_grain=read["keep_grain"],
    )
    affordable = _affordable_faces(recipe, settings.max_request_steps)
    selection = replace(_selection(read), affordable=affordable)
    options = DetailOptions(recipe, selection, _encoding(read))
    image = read.pop("image")
    return Parameters(image, options, seed, as_base64=read["base64"], asked=read)


def parse_webhook_url(values: Mapping[str, object], settings: Settings) -> str | None:
    """Whom to tell of a stored request's end; None: nobody is named.

    Raises:
        BadParameter: it is no http(s) URL, or names an address that may not be reached.
    """
    (text,) = _read((contract.WEBHOOK,), values, settings).values()
    text = text.strip()
    if not text:
        return None
    problem = BadParameter("webhook_url should be an http:// or https:// URL")
    if len(text) > _LONGEST_URL:
        raise problem
    try:
        url = http_url(text)
    except ImpossibleUrl as error:
        raise problem from error
    address = literal_address(url)
    if address is not None and not reach_of(settings)(address):
        raise BadParameter("webhook_url does not lead to a public address")
    return str(text)


@dataclass(frozen=True, slots=True)
class DetectParameters:
    """The parameters of a call that only looks for faces. `image`: as in `Parameters`."""

    image: SentImage
    options: DetectOptions


def parse_detect(values: Mapping[str, object], settings: Settings) -> DetectParameters:
    """As `parse`, for `DETECT_PATH`.

    Raises:
        BadParameter: names the first field that is missing, of the wrong type or out of range.
    """
    read = _read(contract.DETECT_FIELDS, values, settings)
    options = DetectOptions(_selection(read), _encoding(read), overlay=read["overlay"])
    return DetectParameters(read["image"], options)


def fit(options: DetailOptions, longer_side_px: int, max_side_px: int) -> DetailOptions:
    """The options with the largest upscale up to the one asked for that this picture may have.

    Args:
        options: as they were asked for.
        longer_side_px: of the picture that was sent.
        max_side_px: the server's limit on pictures, enlarged ones too.

    Raises:
        BadParameter: the format does not hold the picture even if it is not enlarged.
    """
    check_format(options.encoding, longer_side_px)
    format_px = MAX_SIDE_PX.get(options.encoding.image_format, max_side_px)
    upscale = contract.largest_upscale(
        options.recipe.upscale, longer_side_px, min(max_side_px, format_px)
    )
    return replace(options, recipe=replace(options.recipe, upscale=upscale))


def check_format(encoding: Encoding, longer_side_px: int) -> None:
    """See that a picture of this size can be written.

    Raises:
        BadParameter: its format does not hold it.
    """
    limit_px = MAX_SIDE_PX.get(encoding.image_format)
    if limit_px is not None and longer_side_px > limit_px:
        raise BadParameter(contract.too_large_for(encoding.image_format, limit_px))


def _affordable_faces(recipe: Recipe, max_steps: int) -> int:
    steps = recipe.samples * recipe.num_inference_steps * MOST_PASSES[recipe.passes]
    if steps > max_steps:
        raise BadParameter(contract.over_budget(steps, max_steps))
    return max_steps // steps


def _selection(read: Mapping[str, Any]) -> Selection:
    return Selection(
        detection_threshold=read["detection_threshold"],
        max_faces=read["max_faces"],
        min_face_px=read["min_face_px"],
        face_order=read["face_order"],
    )


def _encoding(read: Mapping[str, Any]) -> Encoding:
    return Encoding(read["image_format"], read["image_quality"])


def with_settings(field: Field, settings: Settings) -> Field:
    """The field as it is on this server: its setting gives the default and, if so, the cap."""
    if field.setting is None:
        return field
    value = getattr(settings, field.setting)
    default = str(value) if field.kind == "choice" else value
    return replace(field, default=default, high=value if field.capped else field.high)


def _read(
    table: Iterable[Field], values: Mapping[str, object], settings: Settings
) -> dict[str, Any]:
    read = {}
    for field in table:
        try:
            read[field.name] = read_value(with_settings(field, settings), values.get(field.name))
        except BadParameter as error:
            error.field = field.name
            raise
    return read
