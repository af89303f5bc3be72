"""TIFF files to read, and what they should show."""

import io

import numpy as np
import tifffile
from picture_files import read

from pipeline.headers import read_header


def tiff(samples: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def widened(levels: np.ndarray, dtype) -> np.ndarray:
    """Levels of 8 bits in a wider type; floats from 0 to 1."""
    if np.issubdtype(dtype, np.floating):
        return (levels / 255).astype(dtype)
    return levels.astype(dtype) * (np.iinfo(dtype).max // 255)


def assert_shows(data: bytes, levels: np.ndarray, tolerance: int = 1) -> None:
    pixels = read(data).image.pixels.astype(int)
    expected = levels if levels.ndim == 3 else np.repeat(levels[:, :, None], 3, axis=2)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= tolerance
    header = read_header(data, max_pixels=10**6, max_side_px=4096)
    assert (header.width_px, header.height_px) == (expected.shape[1], expected.shape[0])


def with_tags(data: bytes, values: dict[int, int]) -> bytes:
    """A little-endian file whose first directory has these values instead."""
    changed = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for number, value in values.items():
            tag = file.pages[0].tags[number]
            size = 2 if tag.dtype == 3 else 4
            changed[tag.valueoffset : tag.valueoffset + size] = value.to_bytes(size, "little")
    return bytes(changed)
