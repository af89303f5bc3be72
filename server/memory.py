"""How the process that answers HTTP gets its memory back from bodies and pictures."""

import contextlib
import ctypes
from typing import Final

# glibc's malloc.h: mallopt(3).
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 2**18


def return_large_buffers() -> None:
    """Have every buffer from 256 KiB on returned to the system when it is freed.

    glibc does so from 128 KiB on at first, but once it has freed one of up to 32 MiB, it takes
    all that are smaller from its heap. There, bodies and pictures of some MiB lie between small
    things that stay, and the heap only grows. Setting the threshold keeps it. With another C
    library nothing happens. Not for workers on a CPU: torch's tensors of such sizes come and go so
    often that it costs them a quarter more processor time.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
