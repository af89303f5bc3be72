"""Picture files to read, and the reading."""

import io
import struct
import zlib

import numpy as np
import PIL.Image

from pipeline.images import Picture, decode

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]


def read(data: bytes, max_pixels: int = 1_000_000, max_side_px: int = 4096) -> Picture:
    return decode(data, max_pixels=max_pixels, max_side_px=max_side_px)


def file_of(image: PIL.Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def photograph(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth RGB, no two sides alike, so that a turn or a swap of channels shows."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 / width, y * 255 / height, 60 + 40 * np.sin(x / 9) * np.cos(y / 7)]
    return np.stack(channels, axis=2).astype(np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
