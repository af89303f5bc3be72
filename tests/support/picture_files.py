"""Picture files to read, and the reading."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pillow_heif

from pipeline.images import Picture, decode

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF", "JPEG2000"]

pillow_heif.register_heif_opener()


def read(data: bytes, max_pixels: int = 1_000_000, max_side_px: int = 4096) -> Picture:
    return decode(data, max_pixels=max_pixels, max_side_px=max_side_px)


def file_of(image: PIL.Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    if image_format == "HEIF" and "exif" in options:  # turned by a box of its own, not by EXIF
        image.info["exif"] = options.pop("exif").tobytes()
    image.save(file, image_format, **options)
    return file.getvalue()


def photograph(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth RGB, no two sides alike, so that a turn or a swap of channels shows."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 / width, y * 255 / height, 60 + 40 * np.sin(x / 9) * np.cos(y / 7)]
    return np.stack(channels, axis=2).astype(np.uint8)


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(colour_type: int, samples: np.ndarray, *chunks: bytes, depth: int = 8) -> bytes:
    """A PNG file of (H, W) or (H, W, channels) samples, with further chunks before its pixels."""
    height, width = samples.shape[:2]
    rows = np.ascontiguousarray(samples.astype(">u2" if depth == 16 else np.uint8))
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")
    return PNG_SIGNATURE + png_chunk(b"IHDR", header) + b"".join(chunks) + pixels


def with_png_chunk(data: bytes, chunk: bytes) -> bytes:
    """The file with a chunk right behind its header."""
    return data[:33] + chunk + data[33:]
