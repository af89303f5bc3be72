"""What the values of `pipeline.types` and `pipeline.request` check where they are built."""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidValue


def check(condition: bool, expected: str, got: object) -> None:
    """Raise `InvalidValue` unless `condition`: "expected …, got …"."""
    if not condition:
        raise InvalidValue(f"expected {expected}, got {got}")


def check_array(array: NDArray[np.generic], dtype: type[np.generic], ndim: int, name: str) -> None:
    """Raise `InvalidValue` unless `array` is of this kind, C-contiguous and not empty."""
    check(
        array.dtype == dtype
        and array.ndim == ndim
        and array.flags.c_contiguous
        and min(array.shape) > 0,
        f"{name} as a C-contiguous {ndim}-dimensional {np.dtype(dtype).name} array, no side empty",
        f"{array.dtype} {array.shape}, C-contiguous: {array.flags.c_contiguous}",
    )
