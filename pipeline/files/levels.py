"""Samples of any depth as levels of 8 bits."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# White that samples usually have, and the highest value beside it: sharpening and resampling leave
# floats somewhat beyond white, and light that is reflected or shines leaves a few far beyond.
_WHITES: Final = ((1.0, 16.0), (255.0, 1000.0), (65535.0, 262_144.0))
# What is beyond white by more than this factor in 1 of 100 samples has another white.
_MOST_BEYOND: Final = 2.0
# So many samples are enough to tell it.
_LOOKED_AT: Final = 1_000_000


def eight_bit(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Samples of any type as levels of 8 bits.

    Unsigned samples of up to 16 bits keep their high byte, as Pillow does for 16-bit RGB: a value
    of 8 bits that was widened, by shifting or by repeating, comes back exactly. Others don't tell
    which value is white: the smallest usual one is taken that holds all integers, or nearly all
    floats; those beyond it are white too.

    Args:
        samples: any shape; not written to.
        bits: of a sample, the highest that are used.
    """
    if samples.dtype.kind in "ub" and bits <= 16:
        if bits < 8:
            samples, bits = samples.astype(np.uint16) * 255 // (2**bits - 1), 8
        return np.asarray(samples >> (bits - 8), np.uint8)
    white = _white(samples)
    levels = np.empty(samples.shape, np.uint8)
    for row, values in enumerate(samples):
        shares = np.nan_to_num(values.astype(np.float64) / white, nan=0.0, posinf=1.0, neginf=0.0)
        levels[row] = np.clip(shares, 0, 1) * 255 + 0.5
    return levels


def _white(samples: NDArray[Any]) -> float:
    top = float(np.max(samples, initial=0.0, where=np.isfinite(samples)))
    if samples.dtype.kind != "f":
        return next((white for white, _ in _WHITES if top <= white), top)
    step = max(1, round((samples.size / _LOOKED_AT) ** 0.5))
    some = samples[::step, ::step]
    finite = some[np.isfinite(some)].astype(np.float64)
    high = float(np.percentile(finite, 99)) if finite.size else 0.0
    fitting = (white for white, most in _WHITES if high <= white * _MOST_BEYOND and top <= most)
    return next(fitting, top)
