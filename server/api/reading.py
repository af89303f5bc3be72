"""One field's value: from JSON's types or the text of a form to what the field's kind says."""

import math
from collections.abc import Callable, Mapping

from server.api import fields
from server.api.encoded import trimmed
from server.api.fields import Field, Kind
from server.api.json_bodies import LongText, SentImage
from server.errors import BadParameter

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")


def read_value(field: Field, value: object) -> object:
    """The field's value, coerced and in range; its default if it is absent, null or blank.

    Raises:
        BadParameter: it is missing, of the wrong type or out of range.
    """
    blank = isinstance(value, str) and not value.strip() and field.kind not in ("image", "text")
    if field.missing is None and (value is None or blank):
        return field.default
    if value is None:
        raise BadParameter(field.missing or fields.not_text(field.name))
    return _READERS[field.kind](field, value)


def _image(field: Field, value: object) -> SentImage:
    if isinstance(value, bytes | LongText):
        return value
    text = trimmed(value) if isinstance(value, str) else ""
    if text:
        return text
    raise BadParameter(field.missing or fields.not_text(field.name))


def _text(field: Field, value: object) -> str:
    text = _decoded(value) if isinstance(value, bytes) else value
    if isinstance(text, str | LongText):
        # No encoding takes more than four bytes a character: what is far too long is not made.
        if len(text) <= 4 * fields.LONGEST_TEXT and len(str(text)) <= fields.LONGEST_TEXT:
            # JSON can carry half a surrogate pair, which no tokenizer takes.
            return str(text).encode("utf-8", "replace").decode("utf-8")
        raise BadParameter(fields.too_long(field.name))
    raise BadParameter(field.missing or fields.not_text(field.name))


def _decoded(part: bytes) -> str | None:
    """The text of a form's part that came as a file; None if it is no text."""
    if b"\0" in part:
        return None
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part.decode("latin-1")


def _bool(field: Field, value: object) -> bool:
    word = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    if word.removesuffix(".0") in _TRUE:
        return True
    if word.removesuffix(".0") in _FALSE:
        return False
    raise BadParameter(fields.not_boolean(field.name))


def _choice(field: Field, value: object) -> str:
    word = str(value).strip().lower() if isinstance(value, int | float | str) else ""
    word = (field.aliases or {}).get(word, word.removesuffix(".0"))
    if word not in field.choices:
        raise BadParameter(fields.not_allowed(field))
    return word


def _number(field: Field, value: object) -> int | float:
    problem = BadParameter(field.missing or fields.NOT_A_NUMBER)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise problem
    number = _number_from_text(value, problem) if isinstance(value, str) else value
    if not isinstance(number, int) and not math.isfinite(number):
        raise problem
    too_low = field.low is not None and number < field.low
    if too_low or (field.high is not None and number > field.high):
        raise BadParameter(fields.out_of_range(field))
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
        raise BadParameter(fields.not_whole(field.name))
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
