"""A CUDA device without a card: tensors that say `cuda:0`, compute on the CPU, and refuse what CUDA
refuses.

Every operator over such a tensor is looked at. A CPU tensor beside it is an error, as on a card;
copies between host and device, and what waits for the device, are noted with the line that asked
for them. What kernels a card lacks, its memory and races between its streams are not seen.
"""

import contextlib
import functools
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
ROOT = Path(__file__).parents[2]
GIB = 2**30

aten = torch.ops.aten
# Their indices may be on the host; they are copied then.
INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
}
# Their answers, or their sizes, are known on the host only when the device is done.
WAITING = {
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.item.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
}
# Elsewhere a number on the host may stand beside tensors on the device.
NO_HOST_NUMBERS = {
    *("addmm", "baddbmm", "bmm", "cat", "convolution", "embedding", "gather", "index_select", "mm"),
    *("native_group_norm", "native_layer_norm", "scatter", "stack"),
}

Kind = Literal["to device", "to host", "wait"]


class WrongDevice(RuntimeError):
    """What CUDA would refuse."""


@dataclass(frozen=True, slots=True)
class Event:
    """A copy or a wait: what was copied or waited for, the project's line, and the thread."""

    kind: Kind
    what: str
    line: str
    thread: str


class PretendTensor(torch.Tensor):
    """`held`: its values, on the CPU. Operators arrive at `_Card` while it is pretended."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "PretendTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        made.held = held
        return made

    # By these torch knows a wrapper, which a module's parameters are swapped for.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, _meta: Any, _size: Any, _stride: Any) -> "PretendTensor":
        return PretendTensor(inner["held"])

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise WrongDevice(f"{func} over a tensor of a card that is no longer pretended")

    def __repr__(self, **_: Any) -> str:
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"


class _Card(TorchDispatchMode):
    """Sees every operator of a thread."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self._events = events

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is aten._to_copy.default:
            return self._to_copy(func, args[0], options)
        if func is aten.copy_.default:
            self._note_copy(_is_there(args[0]), args[1])
            func(_held(args[0]), _held(args[1]), *args[2:], **options)
            return args[0]
        there = any(_is_there(tensor) for tensor in _tensors((args, options)))
        if there:
            self._check(func, args, options)
        return self._run(func, args, options, there)

    def note(self, kind: Kind, what: str) -> None:
        self._events.append(Event(kind, what, _line(), threading.current_thread().name))

    def _to_copy(self, func: Any, source: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        device = options.get("device")
        to_card = _is_there(source) if device is None else torch.device(device).type == "cuda"
        self._note_copy(to_card, source)
        rest = {key: value for key, value in options.items() if key != "device"}
        copy = func(_held(source), **rest)
        return PretendTensor(copy) if to_card else copy

    def _note_copy(self, to_card: bool, source: torch.Tensor) -> None:
        if to_card != _is_there(source):
            what = f"{tuple(source.shape)} {source.dtype}"
            self.note("to device" if to_card else "to host", what)

    def _check(self, func: Any, args: Any, options: dict[str, Any]) -> None:
        name = func._schema.name.removeprefix("aten::")
        given = _tensors((args, options))
        for tensor in given:
            if _is_there(tensor):
                continue
            if func in INDEXING:
                self.note("to device", f"an index of {name}, {tuple(tensor.shape)}")
            elif tensor.dim() > 0 or name in NO_HOST_NUMBERS:
                shapes = [tuple(other.shape) for other in given]
                raise WrongDevice(f"{name}: {shapes}, of which {tuple(tensor.shape)} is on the CPU")
        by_mask = func in INDEXING and any(t.dtype == torch.bool for t in _tensors(args[1]))
        if func in WAITING or by_mask:
            self.note("wait", name)

    def _run(self, func: Any, args: Any, options: dict[str, Any], there: bool) -> Any:
        if options.get("device") is not None:
            there = torch.device(options["device"]).type == "cuda"
            options = {**options, "device": torch.device("cpu")}
        if options.get("pin_memory"):
            options = {**options, "pin_memory": False}
        result = func(*tree_map(_held, args), **tree_map(_held, options))
        returns = func._schema.returns
        if returns and returns[0].alias_info is not None and returns[0].alias_info.is_write:
            return options.get("out", args[0] if args else None)
        return tree_map(_as_there, result) if there else result


@contextlib.contextmanager
def pretending(free_bytes: int = 80 * GIB) -> Iterator[list[Event]]:
    """A card is there inside the block, also for the threads that are started in it.

    Args:
        free_bytes: what it says that it has.

    Yields:
        What was copied and waited for so far.
    """
    events: list[Event] = []
    torch._C._ensureCUDADeviceGuardSet()  # does nothing where there is no card
    run = threading.Thread.run

    def run_beside_the_card(thread: threading.Thread) -> None:
        with _present(events):
            run(thread)

    with contextlib.ExitStack() as stack:
        for target, name, value in (
            *((torch.cuda, *pair) for pair in _answers(free_bytes, events)),
            # torch cannot make its views of such tensors.
            (torch.inference_mode, "__enter__", _enter_no_grad),
            (torch.inference_mode, "__exit__", _exit_no_grad),
            (F, "scaled_dot_product_attention", _attention(F.scaled_dot_product_attention)),
            (threading.Thread, "run", run_beside_the_card),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(_present(events))
        yield events


@contextlib.contextmanager
def _present(events: list[Event]) -> Iterator[None]:
    """In this thread."""
    # torch.tensor(…, device="cuda") is then made on the host and copied, as it is on a card.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Card(events):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)


def _answers(free_bytes: int, events: list[Event]) -> list[tuple[str, Callable[..., Any]]]:
    """What `torch.cuda` says."""
    return [
        ("_lazy_init", lambda: None),
        ("is_available", lambda: True),
        ("device_count", lambda: 1),
        ("get_device_capability", lambda *_: (9, 0)),
        ("get_device_name", lambda *_: "a pretended card"),
        ("mem_get_info", lambda *_: (free_bytes, free_bytes)),
        ("memory_allocated", lambda *_: 0),
        ("memory_reserved", lambda *_: 0),
        ("max_memory_allocated", lambda *_: 0),
        ("max_memory_reserved", lambda *_: 0),
        ("reset_peak_memory_stats", lambda *_: None),
        ("empty_cache", lambda: None),
        ("synchronize", lambda *_: _Card(events).note("wait", "synchronize")),
    ]


def _enter_no_grad(mode: Any) -> None:
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)


def _exit_no_grad(mode: Any, *_: object) -> None:
    torch.set_grad_enabled(mode.before)


def _attention(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Attention, whose C++ would ask the card for its kernels."""

    @functools.wraps(function)
    def attend(*args: Any, **options: Any) -> torch.Tensor:
        given = _tensors((args, options))
        if not any(map(_is_there, given)):
            return function(*args, **options)
        if not all(map(_is_there, given)):
            raise WrongDevice(f"attention: one of {[tuple(t.shape) for t in given]} is on the CPU")
        return PretendTensor(function(*tree_map(_held, args), **tree_map(_held, options)))

    return attend


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _is_there(value: Any) -> bool:
    return isinstance(value, PretendTensor)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, PretendTensor) else value


def _as_there(value: Any) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, PretendTensor)
    return PretendTensor(value) if plain else value


def _line() -> str:
    """The innermost line of this project."""
    for frame in reversed(traceback.extract_stack()):
        file = Path(frame.filename)
        if file.is_relative_to(ROOT / "pipeline"):
            return f"{file.relative_to(ROOT)}:{frame.lineno} {frame.name}"
    return "outside of the pipeline"
