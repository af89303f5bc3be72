"""From the values of a request, JSON's or multipart's, to checked parameters."""

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server import contract
from server.contract import DETECT_FIELDS, FIELDS, MANDATORY, Field, Kind
from server.errors import BadParameter
from server.settings import Settings
from server.types import DetailOptions, DetectOptions

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")
_DRAWN_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Parameters:
    """One call's parameters.

    `image`: a URL, base64 or data URI as text, or a file's bytes; not looked at yet.
    `seed`: as sent (or drawn), of any size; `options.seed` is the pipeline's, in [0, 2⁶³).
    `as_base64`: the reply's form.
    """

    image: str | bytes
    options: DetailOptions
    seed: int
    as_base64: bool


def parse(values: Mapping[str, object], settings: Settings) -> Parameters:
    """Check and coerce one request's values; unknown names are ignored, null counts as absent.

    Raises:
        BadParameter: names the first field that is missing, of the wrong type or out of range.
    """
    read: dict[str, Any] = {field.name: _read(field, values, settings) for field in FIELDS}
    image, as_base64, seed = read.pop("image"), read.pop("base64"), read.pop("seed")
    if seed == contract.DRAW_SEED:
        seed = secrets.randbelow(_DRAWN_SEEDS)
    read["upscale"] = int(read["upscale"])
    options = DetailOptions(**read, seed=seed % contract.SEEDS)
    return Parameters(image=image, options=options, seed=seed, as_base64=as_base64)


@dataclass(frozen=True, slots=True)
class DetectParameters:
    """The parameters of a call that only looks for faces. `image`: as in `Parameters`."""

    image: str | bytes
    options: DetectOptions


def parse_detect(values: Mapping[str, object], settings: Settings) -> DetectParameters:
    """As `parse`, for `DETECT_PATH`.

    Raises:
        BadParameter: names the first field that is missing, of the wrong type or out of range.
    """
    read: dict[str, Any] = {field.name: _read(field, values, settings) for field in DETECT_FIELDS}
    return DetectParameters(read.pop("image"), DetectOptions(**read))


def _read(field: Field, values: Mapping[str, object], settings: Settings) -> object:
    value = values.get(field.name)
    if value is None and field.required:
        raise BadParameter(MANDATORY[field.name])
    if value is None:
        return field.default if field.default is not None else getattr(settings, field.name)
    return _READERS[field.kind](field, value)


def _image(field: Field, value: object) -> str | bytes:
    if isinstance(value, bytes) or (isinstance(value, str) and value.strip()):
        return value
    raise BadParameter(MANDATORY[field.name])


def _text(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise BadParameter(MANDATORY.get(field.name, contract.not_text(field.name)))
    # JSON can carry half a surrogate pair, which no tokenizer takes.
    return value.encode("utf-8", "replace").decode("utf-8")


def _bool(field: Field, value: object) -> bool:
    word = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    if word.removesuffix(".0") in _TRUE:
        return True
    if word.removesuffix(".0") in _FALSE:
        return False
    raise BadParameter(contract.not_boolean(field.name))


def _choice(field: Field, value: object) -> str:
    word = str(value).strip().lower() if isinstance(value, int | float | str) else ""
    word = (field.aliases or {}).get(word, word.removesuffix(".0"))
    if word not in field.choices:
        raise BadParameter(contract.not_allowed(field))
    return word


def _number(field: Field, value: object) -> int | float:
    problem = BadParameter(MANDATORY.get(field.name, contract.NOT_A_NUMBER))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise problem
    number = _number_from_text(value, problem) if isinstance(value, str) else value
    if not isinstance(number, int) and not math.isfinite(number):
        raise problem
    too_low = field.low is not None and number < field.low
    if too_low or (field.high is not None and number > field.high):
        raise BadParameter(contract.out_of_range(field))
    return number


def _number_from_text(text: str, problem: BadParameter) -> int | float:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    raise problem


def _int(field: Field, value: object) -> int:
    number = _number(field, value)
    if number != int(number):
        raise BadParameter(contract.not_whole(field.name))
    return int(number)


def _float(field: Field, value: object) -> float:
    return float(_number(field, value))


_READERS: Mapping[Kind, Callable[[Field, object], object]] = {
    "image": _image,
    "text": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "choice": _choice,
}
