"""Samples of any depth as levels of 8 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def eight_bit(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Samples of any type as levels of 8 bits.

    Unsigned samples of up to 16 bits keep their high byte, as Pillow does for 16-bit RGB: a value
    of 8 bits that was widened, by shifting or by repeating, comes back exactly. Others don't tell
    which value is white: the smallest usual one that holds them all is taken.

    Args:
        samples: any shape; not written to.
        bits: of a sample, the highest that are used.
    """
    if samples.dtype.kind in "ub" and bits <= 16:
        if bits < 8:
            samples, bits = samples.astype(np.uint16) * 255 // (2**bits - 1), 8
        return np.asarray(samples >> (bits - 8), np.uint8)
    top = float(np.max(samples, initial=0.0, where=np.isfinite(samples)))
    white = next((white for white in (1.0, 255.0, 65535.0) if top <= white), top)
    levels = np.empty(samples.shape, np.uint8)
    for row, values in enumerate(samples):
        shares = np.nan_to_num(values.astype(np.float64) / white, nan=0.0, posinf=0.0, neginf=0.0)
        levels[row] = np.clip(shares, 0, 1) * 255 + 0.5
    return levels
