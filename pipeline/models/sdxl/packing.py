"""Weights that wait on the host, together in a few large buffers.

torch rounds every page-locked allocation up to a power of two: of SDXL's tensors, each by itself,
that makes a third more. A buffer here has such a size already, and is full but for the last.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)

BUFFER_BYTES: Final = 2**28
"""What a buffer holds, unless one tensor is larger: the last one's empty part is less than this."""

# As torch places tensors on a device; any type's size divides it.
_ALIGNED_BYTES: Final = 512


@dataclass(slots=True)
class Buffer:
    """What one buffer is to hold: of each tensor its index, and the byte where it begins."""

    capacity_bytes: int
    used_bytes: int = 0
    places: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """What is allocated: a power of two."""
        return _power_of_two(self.used_bytes)


def plan(sizes_bytes: Sequence[int]) -> list[Buffer]:
    """Which buffers hold tensors of these sizes: the largest first, each where there is room."""
    buffers: list[Buffer] = []
    for index in sorted(range(len(sizes_bytes)), key=lambda i: -sizes_bytes[i]):
        size = -(-sizes_bytes[index] // _ALIGNED_BYTES) * _ALIGNED_BYTES
        room = (b for b in buffers if b.used_bytes + size <= b.capacity_bytes)
        buffer = next(room, None)
        if buffer is None:
            buffer = Buffer(max(BUFFER_BYTES, _power_of_two(size)))
            buffers.append(buffer)
        buffer.places.append((index, buffer.used_bytes))
        buffer.used_bytes += size
    return buffers


def packed(
    tensors: dict[Key, torch.Tensor], *, page_locked: bool
) -> Iterator[tuple[Key, torch.Tensor]]:
    """Copies on the host, of the same sizes, types and memory formats, a buffer at a time.

    Args:
        tensors: on any device. Each is taken out when it is copied, so that it may be let go.
        page_locked: in memory from which a CUDA device copies by itself.

    Yields:
        A tensor's key and its copy, a view of a buffer that lives as long as its last copy.
    """
    keys = list(tensors)
    for buffer in plan([tensor.numel() * tensor.element_size() for tensor in tensors.values()]):
        held = torch.empty(buffer.size_bytes, dtype=torch.uint8, pin_memory=page_locked)
        for index, begin in buffer.places:
            tensor = tensors.pop(keys[index]).detach()
            end = begin + tensor.numel() * tensor.element_size()
            # Strides as a clone has them: dense, whatever the tensor is a view of.
            strides = torch.empty_like(tensor, device="meta").stride()
            copy = held[begin:end].view(tensor.dtype).as_strided(tensor.shape, strides)
            yield keys[index], copy.copy_(tensor)


def _power_of_two(size_bytes: int) -> int:
    return 1 << max(0, size_bytes - 1).bit_length()
