"""Converts checkpoints to safetensors without executing anything in them.

A pickle is a program. torch's restricted reader (`weights_only=True`) creates only tensors and
plain containers. The classes that ultralytics uses when it pickles a whole model are allowed by
name, and each is replaced by an inert stand-in that keeps its attributes: neither ultralytics' nor
`torch.nn`'s code runs.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from weights.errors import BadPickle, PullError

# What ultralytics has pickled since 8.0: its own and torch's modules, its settings, bound methods,
# and the training's dates, paths and scores.
ALLOWED = re.compile(
    r"(ultralytics|torch\.nn\.modules)(\.\w+)+"
    r"|builtins\.getattr|types\.SimpleNamespace"
    r"|pathlib\.(Posix|Windows|PurePosix|PureWindows)?Path"
    r"|numpy\.(dtype|(_?core\.multiarray\.)(scalar|_reconstruct)|ndarray)"
)
# The keys under which checkpoints keep their weights, best first: averaged weights before the last
# ones; Real-ESRGAN's names, then ultralytics'.
KEYS = ("params_ema", "params", "ema", "model", "state_dict")


class _StandIn:
    """Replaces any allowed class: accepts any arguments, keeps the attributes it is given."""

    def __new__(cls, *_args: object) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *_args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


def convert(checkpoint: Path, target: Path) -> None:
    """Read a `.pt` or `.pth` file and write its weights to the safetensors file `target`.

    The tensors keep their names, shapes and dtypes. Check the checkpoint's hash before.

    Raises:
        BadPickle: the checkpoint contains something that is not allowed, contains no weights, or is
            damaged.
        PullError: `target` cannot be written.
    """
    try:
        tensors = dict(_tensors(_load(checkpoint)))
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        text = f"expected a checkpoint that torch can read safely, got: {_reason(error)}"
        raise BadPickle(text) from error
    if not tensors:
        raise BadPickle("expected weights in the checkpoint, got none")
    # Copies, because safetensors accepts neither shared memory nor views.
    copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(copies, target)
    except SafetensorError as error:
        raise PullError(
            f"{target} cannot be written: {error}. Free some space, and try again"
        ) from error


def _load(checkpoint: Path) -> object:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint)
    except ValueError:
        # torch's older format cannot be scanned for names, so no class is allowed.
        names = []
    refused = sorted(name for name in names if not ALLOWED.fullmatch(name))
    if refused:
        raise BadPickle(f"expected only weights in the checkpoint, got {', '.join(refused)}")
    with torch.serialization.safe_globals([(_StandIn, name) for name in names]):
        return torch.load(checkpoint, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """The reason that torch gives, without its advice to turn the restriction off."""
    inner = error.__context__ if isinstance(error, pickle.UnpicklingError) else None
    return str(inner or error).partition("\n")[0].partition(" Please use")[0]


def _tensors(loaded: object) -> Iterator[tuple[str, torch.Tensor]]:
    kept = loaded
    if isinstance(loaded, Mapping):
        inner = (loaded.get(key) for key in KEYS)
        kept = next((part for part in inner if isinstance(part, Mapping | _StandIn)), loaded)
    if isinstance(kept, _StandIn):
        yield from _module_tensors(kept, "")
    elif isinstance(kept, Mapping):
        for name, value in kept.items():
            if isinstance(value, torch.Tensor):
                yield str(name), value.detach()


def _module_tensors(module: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """What `torch.nn.Module.state_dict` would return, read from the attributes alone."""
    attributes = vars(module)
    passing = attributes.get("_non_persistent_buffers_set", ())
    named = {**attributes.get("_parameters", {}), **attributes.get("_buffers", {})}
    for name, value in named.items():
        if value is not None and name not in passing:
            yield prefix + name, value.detach()
    for name, child in attributes.get("_modules", {}).items():
        if child is not None:
            yield from _module_tensors(child, f"{prefix}{name}.")
