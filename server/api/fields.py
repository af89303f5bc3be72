"""What a field of a request is, the errors it can cause, and how it is described to people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from server import ENV_PREFIX

Kind = Literal["image", "text", "int", "float", "bool", "choice"]

LONGEST_TEXT = 2**16
"""The most characters of a text: four times what a prompt for each of a thousand faces takes."""

NOT_A_NUMBER = "Inputs which are supposed to be numbers are in alphabet"

_ANY_VALUE: Mapping[Kind, str] = {
    "image": "see below",
    "text": f"up to {LONGEST_TEXT:,} characters",
    "int": "any integer",
    "float": "any number",
    "bool": "true, false",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request.

    Attributes:
        name: as on the wire.
        kind: what its value is read as.
        help: what it means, in Markdown without links.
        missing: for a required field, the error text where it is absent or of another type; None
            makes the field optional.
        default: the value of an optional field that is absent or null. None where there is a
            `setting`.
        setting: the name of the server's setting that gives the default.
        capped: whether the setting is also the most that a request may ask for.
        low, high: the range of a number, both ends included; None leaves that side open.
        choices: the values of a choice.
        aliases: other spellings of choices, and what they stand for.
        pattern: a regular expression for what is taken of a text, for documentation.
        example: a value for documentation; None where the default will do.
    """

    name: str
    kind: Kind
    help: str
    missing: str | None = None
    default: str | float | bool | None = None
    setting: str | None = None
    capped: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    aliases: Mapping[str, str] | None = None
    pattern: str | None = None
    example: str | float | bool | None = None

    @property
    def required(self) -> bool:
        """Whether a request must have it."""
        return self.missing is not None

    @property
    def variable(self) -> str | None:
        """The environment variable of its setting."""
        return None if self.setting is None else f"{ENV_PREFIX}{self.setting.upper()}"

    @property
    def default_text(self) -> str | None:
        """The default for people: a value, or the variable that gives it; None where required."""
        if self.required:
            return None
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, int | float):
            return f"{self.default:g}"
        return self.variable or self.default

    @property
    def allowed_texts(self) -> tuple[str, ...]:
        """The allowed values for people: each choice, or one text for all, e.g. `15–75`."""
        if self.choices:
            return self.choices
        if self.low is None or self.high is None:
            return (_ANY_VALUE[self.kind],)
        return (f"{self.low:g}–{self.variable if self.capped else format(self.high, 'g')}",)


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


def too_long(name: str) -> str:
    """More than `LONGEST_TEXT` characters."""
    return f"{name} should have at most {LONGEST_TEXT:,} characters"
