"""Operations and memory of a network's call, found without doing it: on torch's meta device."""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Cost:
    """`flops`: floating-point operations, a multiplication and an addition being two.
    `peak_bytes`: the most that inputs, outputs and what lies between take at a time.
    """

    flops: int
    peak_bytes: int


@dataclass(slots=True)
class Calls:
    """Calls of one network with arguments of one shape. `arguments`, `options`: on meta."""

    network: str
    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    count: int = 0


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows how many bytes of tensors are alive, of those made inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._live_bytes = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it, and count what came of it."""
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self.note(tensor)
        return result

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor's memory, once, until it is freed."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self.ignore(tensor)
        size = storage.nbytes()
        self._live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        weakref.finalize(storage, self._free, size)

    def ignore(self, tensor: torch.Tensor) -> None:
        """Leave a tensor's memory out, and that of its views."""
        self._known.add(tensor.untyped_storage())

    def _free(self, size: int) -> None:
        self._live_bytes -= size


class FlashAttention(torch.overrides.TorchFunctionMode):
    """Attention as GPUs do it, without the matrix of all pairs, where the head is small enough."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it; attention in one operation."""
        options = kwargs or {}
        attention = func is torch.nn.functional.scaled_dot_product_attention
        if attention and args[0].shape[-1] <= 256 and options.get("attn_mask") is None:
            causal = options.get("is_causal", False)
            flash = torch.ops.aten._scaled_dot_product_flash_attention  # noqa: SLF001
            return flash(*args[:3], 0.0, causal, scale=options.get("scale"))[0]
        return func(*args, **options)


def cost_of(network: torch.nn.Module, calls: Calls) -> Cost:
    """One such call, counted on meta; `network` may be anywhere, and stays as it is."""
    named = chain(network.named_parameters(), network.named_buffers())
    weights = {name: tensor.detach().to("meta") for name, tensor in named}
    # The innermost mode sees an operation last: attention is replaced before it is counted.
    with torch.no_grad(), FlopCounterMode(display=False) as flops, LiveMemory() as live:
        for tensor in weights.values():
            live.ignore(tensor)
        for tensor in _tensors((calls.arguments, calls.options)):
            live.note(tensor)
        with FlashAttention(), torch.device("meta"):
            torch.func.functional_call(network, weights, calls.arguments, calls.options)
    return Cost(flops.get_total_flops(), live.peak_bytes)


@contextmanager
def recording(networks: Mapping[str, torch.nn.Module]) -> Iterator[list[Calls]]:
    """Note what the networks are given inside the block; from any thread."""
    found: dict[str, Calls] = {}
    calls: list[Calls] = []
    hooks = []

    def note(name: str, arguments: Any, options: Any) -> None:
        given = as_meta(arguments), as_meta(options)
        key = f"{name} {_shapes(given)}"
        if key not in found:
            found[key] = Calls(name, *given)
            calls.append(found[key])
        found[key].count += 1

    for name, network in networks.items():
        hooks.append(
            network.register_forward_pre_hook(
                lambda _, arguments, options, name=name: note(name, arguments, options),
                with_kwargs=True,
            )
        )
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def as_meta(value: Any) -> Any:
    """The same, its tensors replaced by ones without values."""
    if isinstance(value, torch.Tensor):
        return torch.empty_like(value, device="meta")
    if isinstance(value, dict):
        return {key: as_meta(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(as_meta(part) for part in value)
    return value


def _shapes(value: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in _tensors(value)]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
