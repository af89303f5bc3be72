"""Which networks are on the device: all of them, or only the one that is at work."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch

from pipeline.models.sdxl.packing import packed
from pipeline.report import DeviceMemory

MemoryMode = Literal["auto", "resident", "offload", "low"]

# Free memory over the networks' own size. Beside them, all on the device, activations need about as
# much again: two pictures of 1024² in the VAE, sixteen rows in the UNet. One network at a time and
# fewer rows, as `FittingBatches` cuts them, still want half of it.
RESIDENT_FROM = 2.0
OFFLOAD_FROM = 1.5

logger = logging.getLogger(__name__)


class NetworkMemory:
    """Places networks. Their weights never change, so those off the device are one copy on the
    host, in few large buffers.

    `one_at_a_time`: a network is on the device only inside `using`, with those alone that are used
    together.
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
        self._present: tuple[torch.nn.Module, ...] = ()
        self._on_host: dict[torch.nn.Module, list[_HostTensor]] = {}
        if one_at_a_time:
            self._pack(networks)
        else:
            for network in networks:
                network.to(device)

    @contextmanager
    def using(self, *networks: torch.nn.Module) -> Iterator[None]:
        """The networks are on the device inside the block, which one thread at a time is in."""
        if not all(network in self._on_host for network in networks):
            yield
            return
        with self._lock:
            if self._present != networks:
                # None is present until all are: one that does not fit takes no room from others.
                gone, self._present = self._present, ()
                for network in gone:
                    self._evict(network)
                try:
                    for network in networks:
                        self._bring(network)
                except BaseException:
                    for network in networks:
                        self._evict(network)
                    raise
                self._present = networks
            yield

    def of_device(self) -> DeviceMemory | None:
        """The device's memory now; None for a CPU."""
        if self.device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self.device)
        return DeviceMemory(total, total - free, torch.cuda.memory_reserved(self.device))

    def _pack(self, networks: Sequence[torch.nn.Module]) -> None:
        self._on_host = {network: [] for network in networks}
        tensors = {
            (network, owner, name): tensor.data
            for network in networks
            for owner in network.modules()
            for name, tensor in _own_tensors(owner)
        }
        for (network, owner, name), copy in packed(tensors, page_locked=self.device.type == "cuda"):
            host = _HostTensor(owner, name, copy)
            self._on_host[network].append(host)
            # The tensor that was there is let go.
            host.put(copy)

    def _bring(self, network: torch.nn.Module) -> None:
        # A network outlives the inference mode of whoever brings it.
        with torch.inference_mode(mode=False):
            for copy in self._on_host[network]:
                copy.put(copy.tensor.to(self.device, non_blocking=True))

    def _evict(self, network: torch.nn.Module) -> None:
        for copy in self._on_host[network]:
            copy.put(copy.tensor)


@dataclass(frozen=True, slots=True)
class _HostTensor:
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
