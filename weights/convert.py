"""Checkpoints become safetensors, without running anything that they hold.

A pickle is a program. torch's restricted reader (`weights_only=True`) makes tensors and plain
containers only; the classes that ultralytics pickles a whole model with are let through by name,
and each of them becomes an inert stand-in that keeps its attributes. Neither ultralytics' code nor
`torch.nn`'s runs.
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

# What ultralytics has pickled since 8.0: its modules and torch's; its settings; bound methods;
# dates, paths and scores of the training.
ALLOWED = re.compile(
    r"(ultralytics|torch\.nn\.modules)(\.\w+)+"
    r"|builtins\.getattr|types\.SimpleNamespace"
    r"|pathlib\.(Posix|Windows|PurePosix|PureWindows)?Path"
    r"|numpy\.(dtype|(_?core\.multiarray\.)(scalar|_reconstruct)|ndarray)"
)
# Where checkpoints keep their weights, best first: the average over the training, where there is
# one; Real-ESRGAN's names, then ultralytics' names.
KEYS = ("params_ema", "params", "ema", "model", "state_dict")


class _StandIn:
    """Takes the place of any allowed class: made of anything, keeps what it is filled with."""

    def __new__(cls, *_args: object) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *_args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


def convert(checkpoint: Path, target: Path) -> None:
    """Read a `.pt` or `.pth` file, whose hash must have matched, and write its weights.

    The tensors keep their names, shapes and dtypes.

    Raises:
        BadPickle: it holds anything that is not allowed, no weights, or is damaged.
        PullError: `target` cannot be written.
    """
    try:
        tensors = dict(_tensors(_load(checkpoint)))
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        text = f"expected a checkpoint that torch can read safely, got: {_reason(error)}"
        raise BadPickle(text) from error
    if not tensors:
        raise BadPickle("expected weights in the checkpoint, got none")
    # Copies: safetensors takes no two names of one memory, and no views.
    copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(copies, target)
    except SafetensorError as error:
        raise PullError(f"{target} cannot be written: {error}. Make room, and try again") from error


def _load(checkpoint: Path) -> object:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint)
    except ValueError:
        # torch's older format: it cannot be looked through, so no class is let in.
        names = []
    refused = sorted(name for name in names if not ALLOWED.fullmatch(name))
    if refused:
        raise BadPickle(f"expected weights alone in the checkpoint, got {', '.join(refused)}")
    with torch.serialization.safe_globals([(_StandIn, name) for name in names]):
        return torch.load(checkpoint, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """What torch found, without the advice to turn the restriction off that it wraps it in."""
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
    """What `torch.nn.Module.state_dict` would give, from the attributes alone."""
    attributes = vars(module)
    passing = attributes.get("_non_persistent_buffers_set", ())
    named = {**attributes.get("_parameters", {}), **attributes.get("_buffers", {})}
    for name, value in named.items():
        if value is not None and name not in passing:
            yield prefix + name, value.detach()
    for name, child in attributes.get("_modules", {}).items():
        if child is not None:
            yield from _module_tensors(child, f"{prefix}{name}.")
