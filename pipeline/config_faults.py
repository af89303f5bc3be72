"""What is wrong with a profile, as sentences for whoever wrote it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

# Where a value lies: ("inpainter", "loras", 0, "scale").
Place = tuple[str | int, ...]


def allowed_values(table: type, prefix: str = "") -> dict[str, str]:
    """What each key of a table allows, and those of the tables in it, by dotted key.

    Args:
        table: a dataclass whose fields' annotations carry descriptions; one without is no key.
        prefix: what the keys begin with.

    >>> allowed_values(Profile)["inpainter.loras[].scale"]
    'a number from -10 to 10'
    """
    found: dict[str, str] = {}
    for name, hint in get_type_hints(table, include_extras=True).items():
        key = prefix + name
        for field in get_args(hint):
            if isinstance(field, FieldInfo) and field.description is not None:
                found[key] = field.description
        inner = _table_in(hint)
        if inner is not None:
            is_list = get_origin(get_args(hint)[0]) is tuple
            found |= allowed_values(inner, f"{key}[]." if is_list else f"{key}.")
    return found


def sentences(
    error: ValidationError,
    table: type,
    values: Mapping[str, Any],
    origin: Callable[[Place], object],
) -> list[str]:
    """One sentence per wrong key: file, key, what is allowed, and what it has instead.

    Args:
        error: what the dataclass `table` raised.
        table: the whole profile.
        values: what it was built from.
        origin: names the file that a place's value comes from.
    """
    told: dict[Place, str] = {}
    for fault in error.errors():
        other = fault.get("ctx", {}).get("key")
        place = _place((*fault["loc"], *([other] if other else [])), table)
        file = origin(place[:-1] if other else place)
        told.setdefault(place, f"{file}: {_sentence(fault, place, table, values)}")
    return list(told.values())


def as_toml(value: object) -> str:
    """A value as a profile file has it, in one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _sentence(fault: ErrorDetails, place: Place, table: type, values: Mapping[str, Any]) -> str:
    allowed = allowed_values(table)
    key = _dotted(place)
    rule = allowed.get(_dotted(place, numbered=False), "a table")
    match fault["type"]:
        case "unexpected_keyword_argument":
            return unknown_key(key, table)
        case "missing":
            return f"{key} is missing, and should be {rule}"
    value: Any = values
    for part in place:
        value = value[part]
    return f"{key} should be {rule}, got {as_toml(value)}"


def unknown_key(key: str, table: type) -> str:
    """The sentence for a key that no profile has: it names those that lie beside it."""
    parent = re.sub(r"\[\d+\]", "[]", key).rpartition(".")[0]
    beside = [] if parent else ["base"]
    for name in allowed_values(table):
        above, _, last = name.rpartition(".")
        beside += [last] * (above == parent)
    return f"{key} is no key of a profile; allowed there: {', '.join(sorted(beside))}"


def _table_in(hint: Any) -> type | None:
    """The dataclass that an annotation holds, by itself, beside None or in a list."""
    base = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    candidates = [item for item in (base, *get_args(base)) if isinstance(item, type)]
    return next((item for item in candidates if is_dataclass(item)), None)


def _place(location: Place, table: type) -> Place:
    """The part of pydantic's location that leads to a key; what is wrong inside its value is said
    of the whole value.
    """
    place: list[str | int] = []
    inner: type | None = table
    for part in location:
        if inner is None:
            break
        place.append(part)
        if isinstance(part, str):
            inner = _table_in(get_type_hints(inner, include_extras=True).get(part))
    return tuple(place)


def _dotted(place: Place, *, numbered: bool = True) -> str:
    parts = [
        (f"[{part}]" if numbered else "[]") if isinstance(part, int) else f".{part}"
        for part in place
    ]
    return "".join(parts).removeprefix(".")
