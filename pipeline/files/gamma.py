"""Colour profiles made of what PNG's `gAMA` and `cHRM` say, as browsers take them."""

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# In PNG's units, 1/100,000. sRGB's curve is not quite a power; its gAMA is 1/2.2.
_SRGB_GAMMA: Final = 45455
_SRGB_CHROMATICITIES: Final = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
# libpng leaves pixels alone whose gamma is within 5 % of the screen's (PNG_GAMMA_THRESHOLD), and
# calls chromaticities the same that differ by up to 0.001 (PNG_COLORSPACE_MATCH_cHRM).
_GAMMA_TOLERANCE: Final = 0.05
_CHROMATICITY_TOLERANCE: Final = 100
# libpng's bounds of a gAMA that makes sense.
_GAMMAS: Final = range(16, 625_000_001)

# ICC.1:2010, D50; and the Bradford matrix of its annex E.
_D50: Final = np.array([0.9642, 1.0, 0.8249])
_BRADFORD: Final = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_CURVE_POINTS: Final = 4096


def gamma_profile(gamma: int, chromaticities: Sequence[int] | None) -> bytes | None:
    """An ICC profile of pixels with this `gAMA` and `cHRM`; None if they are as good as sRGB's, or
    make no sense.

    With `cHRM`, light is a power of the value, exactly. Without it, browsers only raise the values
    to a power, to suit a screen of gamma 2.2.

    Args:
        gamma: in 1/100,000: the power that made values of light.
        chromaticities: white, red, green, blue, each x and y, in 1/100,000; or None.
    """
    if gamma not in _GAMMAS:
        return None
    primaries = None if chromaticities is None else _primaries(chromaticities)
    if _is_srgb(gamma, chromaticities if primaries is not None else None):
        return None
    value = np.linspace(0, 1, _CURVE_POINTS)
    if primaries is None:
        primaries = _primaries(_SRGB_CHROMATICITIES)
        light = _srgb_light(value ** (_SRGB_GAMMA / gamma))
    else:
        light = value ** (100_000 / gamma)
    return None if primaries is None else _icc(primaries, light)


def _is_srgb(gamma: int, chromaticities: Sequence[int] | None) -> bool:
    same_primaries = chromaticities is None or all(
        abs(ours - srgb) <= _CHROMATICITY_TOLERANCE
        for ours, srgb in zip(chromaticities, _SRGB_CHROMATICITIES, strict=True)
    )
    return same_primaries and abs(gamma / _SRGB_GAMMA - 1) <= _GAMMA_TOLERANCE


def _srgb_light(value: Floats) -> Floats:
    """IEC 61966-2-1."""
    light: Floats = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return light


def _primaries(chromaticities: Sequence[int]) -> Floats | None:
    """(3, 3): columns red, green, blue, in XYZ adapted to D50; None if they span no space."""
    x, y = np.array(chromaticities, dtype=np.float64).reshape(4, 2).T / 100_000
    if (y <= 0).any():
        return None
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    white, colours = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(colours)) < 1e-6:
        return None
    shares = np.linalg.solve(colours, white)
    if (shares <= 0).any():
        return None
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted: Floats = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ (colours * shares)
    return adapted if np.abs(adapted).max() < 4 else None


def _icc(primaries: Floats, light: Floats) -> bytes:
    """A matrix profile, ICC.1 version 2.1: three columns, and one curve for all channels."""
    curve = b"curv" + struct.pack(">4xI", len(light))
    curve += np.rint(np.clip(light, 0, 1) * 65535).astype(">u2").tobytes()
    columns = [_xyz(column) for column in (*primaries.T, _D50)]
    names = [b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"bTRC"]
    start = 128 + 4 + 12 * len(names)
    spans = [(start + 20 * index, 20) for index in range(4)] + [(start + 80, len(curve))] * 3
    tags = b"".join(
        name + struct.pack(">II", *span) for name, span in zip(names, spans, strict=True)
    )
    body = struct.pack(">I", len(names)) + tags + b"".join(columns) + curve
    header = struct.pack(
        ">I4xI12s12x4s28x12s48x",
        128 + len(body),
        0x02100000,
        b"mntrRGB XYZ ",
        b"acsp",
        _xyz(_D50)[8:],
    )
    return header + body


def _xyz(column: Floats) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in column))
