"""Which networks are on the device: all of them, or only the one that is at work."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch

MemoryMode = Literal["auto", "resident", "offload", "low"]

# Free memory over the networks' own size. Beside them, all on the device, activations need about as
# much again: four pictures of 1024² in the VAE, sixteen rows in the UNet. One network at a time and
# fewer rows, which `FittingBatches` finds out, still want half of it.
RESIDENT_FROM = 2.0
OFFLOAD_FROM = 1.5

logger = logging.getLogger(__name__)


class NetworkMemory:
    """Places networks. Their weights never change, so those off the device are one kept copy.

    `one_at_a_time`: a network is on the device only inside `using`, and no two are.
    """

    def __init__(
        self,
        networks: Sequence[torch.nn.Module],
        device: torch.device,
        *,
        one_at_a_time: bool = False,
    ) -> None:
        self.device = device
        self._lock = threading.RLock()
        self._present: torch.nn.Module | None = None
        self._kept: dict[torch.nn.Module, list[_Kept]] = {}
        for network in networks:
            if one_at_a_time:
                self._kept[network] = [
                    _Kept(owner, name, _host_copy(tensor.data, device))
                    for owner in network.modules()
                    for name, tensor in _own_tensors(owner)
                ]
                self._evict(network)
            else:
                network.to(device)

    @contextmanager
    def using(self, network: torch.nn.Module) -> Iterator[None]:
        """The network is on the device inside the block, which one thread at a time is in."""
        if network not in self._kept:
            yield
            return
        with self._lock:
            if self._present is not network:
                if self._present is not None:
                    self._evict(self._present)
                self._bring(network)
                self._present = network
            yield

    def _bring(self, network: torch.nn.Module) -> None:
        # A network outlives the inference mode of whoever brings it.
        with torch.inference_mode(mode=False):
            for kept in self._kept[network]:
                kept.put(kept.tensor.to(self.device, non_blocking=True))

    def _evict(self, network: torch.nn.Module) -> None:
        for kept in self._kept[network]:
            kept.put(kept.tensor)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A parameter or buffer: whose it is, and its copy on the host."""

    owner: torch.nn.Module
    name: str
    tensor: torch.Tensor

    def put(self, tensor: torch.Tensor) -> None:
        if self.name in dict(self.owner.named_parameters(recurse=False)):
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        setattr(self.owner, self.name, tensor)


def choose_mode(networks: Sequence[torch.nn.Module], device: torch.device) -> MemoryMode:
    """What suits the memory that is free on the device now; never "auto"."""
    if device.type != "cuda":
        return "resident"
    free, _total = torch.cuda.mem_get_info(device)
    own = size_bytes(networks)
    mode = suitable(free, own)
    logger.info(
        "%.1f GiB are free on %s, the networks have %.1f: memory mode %s.",
        free / 2**30,
        device,
        own / 2**30,
        mode,
    )
    return mode


def suitable(free_bytes: int, networks_bytes: int) -> MemoryMode:
    """The mode for this much free memory and networks of this size."""
    if free_bytes >= RESIDENT_FROM * networks_bytes:
        return "resident"
    return "offload" if free_bytes >= OFFLOAD_FROM * networks_bytes else "low"


def size_bytes(networks: Sequence[torch.nn.Module]) -> int:
    """What the weights of all take."""
    owners = chain.from_iterable(network.modules() for network in networks)
    tensors = (tensor for owner in owners for _, tensor in _own_tensors(owner))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _own_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))


def _host_copy(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the host; for CUDA in memory that the device copies from by itself."""
    copy = tensor.detach().cpu()
    return copy.pin_memory() if device.type == "cuda" else copy
