"""Options that several commands share, and those that are made from a request's fields."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import typer

from server import ENV_PREFIX
from server.api.fields import Field

Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="tiny, sdxl, sdxl-fast, sdxl-inpainting, a profile file (.toml), or auto: sdxl where "
        "CUDA is present, else tiny.",
    ),
]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="cpu, cuda:0, …")]

Url = Annotated[
    str | None,
    typer.Option(
        envvar=f"{ENV_PREFIX}URL",
        metavar="URL",
        help="Have a running server do it, at this address, and load no models here.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar=f"{ENV_PREFIX}KEY", metavar="KEY", help="The API key for --url."),
]

Texts = Mapping[str, str | None]
"""What was given for each field, by the field's name; None where its option was not used."""

_NO_DEFAULT = inspect.Parameter.empty
_TYPES = {"image": "FILE", "text": "TEXT", "int": "INT", "float": "FLOAT", "bool": "true|false"}


def takes_fields(
    fields: Iterable[Field],
    defaults: Mapping[str, str] | None = None,
    presets: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command an option for each field, in place of parameter `fields`.

    That parameter gets their values as `Texts`, to be read as the API reads them, with the same
    error texts. `defaults`: by field, what the help says in place of the field's own default.
    `presets`: by field, the value where its option is not used.
    """
    preset = presets or {}
    table = tuple(fields)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None if field.name in preset or not field.required else _NO_DEFAULT,
            annotation=_option(field, {**preset, **(defaults or {})}.get(field.name)),
        )
        for field in table
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_options(**values: object) -> None:
            texts = {field.name: values.pop(field.name) for field in table}
            texts |= {name: text for name, text in preset.items() if texts[name] is None}
            command(**values, fields=texts)

        signature = inspect.signature(command)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += options if parameter.name == "fields" else [parameter]
        # All by keyword, so that required ones may come after others, where help is to show them.
        by_keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        with_options.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=by_keyword
        )
        return with_options

    return decorate


def option_of(name: str) -> str:
    """The option of a field or a parameter."""
    return f"--{name.replace('_', '-')}"


def where_from(name: str, value: str | None) -> str:
    """How a parameter that has a variable got its value: the variable's name, or the option's."""
    variable = f"{ENV_PREFIX}{name.upper()}"
    return variable if os.environ.get(variable) == value else option_of(name)


def _option(field: Field, default: str | None) -> object:
    notes: list[str] = []
    if field.low is not None or field.high is not None:
        notes += field.allowed_texts
    if default or field.default_text:
        notes.append(f"default: {default or field.default_text}")
    text = field.help.replace("`", "") + (f" ({'; '.join(notes)})" if notes else "")
    option = typer.Option(
        option_of(field.name),
        help=text,
        metavar="|".join(field.choices) or _TYPES[field.kind],
    )
    return Annotated[str if field.required and default is None else str | None, option]
