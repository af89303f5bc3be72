"""Requests written flat, as a client writes them."""

from dataclasses import fields
from typing import Any

from pipeline.request import DetailRequest, Recipe, Selection
from pipeline.types import Image

_SELECTION = {field.name for field in fields(Selection)}


def asking(image: Image, prompt: str = "", denoise: float = 0.4, **options: Any) -> DetailRequest:
    """A request for `image`; `options` are fields of `Recipe`, `Selection` and `DetailRequest`."""
    alpha = options.pop("alpha", None)
    selection = Selection(**{k: v for k, v in options.items() if k in _SELECTION})
    rest = {k: v for k, v in options.items() if k not in _SELECTION}
    return DetailRequest(image, Recipe(prompt, denoise, **rest), selection, alpha)
