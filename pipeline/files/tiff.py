"""TIFF files: those of 8 bits by Pillow, the others by tifffile.

Pillow knows a list of layouts, in which most of those of more than 8 bits, of floats, and of odd
bits are missing, and not every compression. Format: TIFF 6.0.
"""

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2, TiffImageFile

from pipeline.errors import InvalidImage
from pipeline.files.levels import eight_bit
from pipeline.files.limited import LimitedFile, open_limited
from pipeline.files.tiff_segments import bound

Bytes = NDArray[np.uint8]

# Pillow knows BigTIFF by a little-endian header only.
_BIG_ENDIAN_BIGTIFF: Final = b"MM\0+"

# Pillow knows the name of WebP, but its own libtiff is built without it.
_BY_PILLOW: Final = frozenset(COMPRESSION_INFO) - {50001}

_SAMPLE_FORMAT: Final = 339
_EXTRA_SAMPLES: Final = 338
_ICC_PROFILE: Final = 34675
# SampleFormat: unsigned, signed, float. TIFF 6.0, section 19.
_UNSIGNED: Final = 1
_NUMBERS: Final = frozenset((_UNSIGNED, 2, 3))
# PhotometricInterpretation, and how many samples of a pixel are its colour.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_COLOURS: Final = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}
# ExtraSamples: alpha that the colours are multiplied with, and alpha that they are not.
_ASSOCIATED, _UNASSOCIATED = 1, 2
# More samples are measurements, not a picture.
_MOST_SAMPLES: Final = 8
_MODES: Final = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA"}


class DeepTiffFile(ImageFile.ImageFile):
    """A TIFF file's first picture, as 8 bits a channel, by tifffile."""

    format = "TIFF"

    def __init__(self, data: bytes, tags: Mapping[int, Any]) -> None:
        """`tags`: of the first directory, by number."""
        self._data, self._tags = data, tags
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        tags = self._tags
        colours = _COLOURS.get(tags.get(Tag.PhotometricInterpretation, -1), 0)
        formats = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
        samples = tags.get(Tag.SamplesPerPixel, 1)
        if colours == 0 or not _NUMBERS.issuperset(formats) or samples > _MOST_SAMPLES:
            raise _unsupported()
        self._alpha = _alpha(tags, colours)
        shown = 3 if tags[Tag.PhotometricInterpretation] == _PALETTE else colours
        self._size = int(tags[Tag.ImageWidth]), int(tags[Tag.ImageLength])
        self._mode = _MODES.get((shown, self._alpha is not None), "CMYK")
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, self._mode)]  # noqa: SLF001
        self.info.update(_info(tags))

    def load(self) -> Any:
        """As Pillow's.

        Raises:
            InvalidImage: tifffile does not know how the pixels are stored.
            ValueError, OSError, …: the pixels are broken.
        """
        if self.tile:
            self.fp = io.BytesIO(_pixels(self._data, self._size, self._alpha).tobytes())
        return super().load()


def open_tiff(data: bytes, _header_only: bool) -> ImageFile.ImageFile:
    """A TIFF file with its first picture's header read.

    Raises:
        InvalidImage: what the samples mean is not known here.
        SyntaxError, ValueError, OSError, …: it is broken.
    """
    tags = _first_directory(data)
    bits, formats = tags.get(Tag.BitsPerSample, (1,)), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    is_shallow = max(bits) <= 8 and set(formats) == {_UNSIGNED}
    is_known = tags.get(Tag.Compression, 1) in _BY_PILLOW
    if is_shallow and is_known and not data.startswith(_BIG_ENDIAN_BIGTIFF):
        try:
            return open_limited(TiffImageFile, data)
        except SyntaxError:
            # A layout that Pillow does not have.
            return DeepTiffFile(data, tags)
    return DeepTiffFile(data, tags)


def _first_directory(data: bytes) -> ImageFileDirectory_v2:
    file = LimitedFile(data)
    directory = ImageFileDirectory_v2(file.read(16 if data[2:3] == b"+" else 8))
    if data.startswith(_BIG_ENDIAN_BIGTIFF):
        directory._bigtiff = True  # noqa: SLF001
        directory.next = int.from_bytes(file.read(8), "big")
    file.seek(directory.next)
    directory.load(file)
    return directory


def _alpha(tags: Mapping[int, Any], colours: int) -> int | None:
    """Which kind of alpha stands behind the colours: `_ASSOCIATED`, `_UNASSOCIATED` or None."""
    extra = tags.get(_EXTRA_SAMPLES, ())
    kind = extra[0] if extra and tags.get(Tag.SamplesPerPixel, 1) > colours else None
    return kind if kind in (_ASSOCIATED, _UNASSOCIATED) and colours in (1, 3) else None


def _info(tags: Mapping[int, Any]) -> dict[str, Any]:
    """What Pillow keeps in `info`, of what is used here."""
    info: dict[str, Any] = {}
    if tags.get(_ICC_PROFILE):
        info["icc_profile"] = tags[_ICC_PROFILE]
    if tags.get(Tag.Orientation):
        exif = Image.Exif()
        exif[Tag.Orientation] = tags[Tag.Orientation]
        info["exif"] = exif.tobytes()
    x, y = tags.get(Tag.XResolution), tags.get(Tag.YResolution)
    unit = {2: 1.0, 3: 2.54}.get(tags.get(Tag.ResolutionUnit, 2))
    if x and y and unit:
        info["dpi"] = float(x) * unit, float(y) * unit
    return info


def _pixels(data: bytes, size_wh: tuple[int, int], alpha: int | None) -> Bytes:
    """(H, W, channels) uint8 in the file's mode."""
    # Loads its codecs for a second, which most processes never need.
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        known = page.compression in tifffile.TIFF.DECOMPRESSORS
        if not isinstance(page, tifffile.TiffPage) or page.dtype is None or not known:
            raise _unsupported()
        bound(page, tifffile.TIFF.DECOMPRESSORS[page.compression])
        samples = page.asarray(maxworkers=1)
        photometric, colour_map = int(page.photometric), page.colormap
        separate = page.planarconfig == 2 and page.samplesperpixel > 1
        bits = page.bitspersample
    if separate:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(size_wh[1], size_wh[0], -1)
    if photometric == _PALETTE:
        index = samples[:, :, 0]
        return np.asarray(np.moveaxis(colour_map, 0, -1)[index] >> 8, np.uint8)
    channels = _COLOURS[photometric] + (alpha is not None)
    levels = eight_bit(samples[:, :, :channels], bits)
    if photometric == _WHITE_IS_ZERO:
        levels[:, :, 0] = 255 - levels[:, :, 0]
    return _apart(levels) if alpha == _ASSOCIATED else levels


def _apart(levels: Bytes) -> Bytes:
    """Colours that were multiplied with alpha, the last channel, without it."""
    alpha = np.maximum(levels[:, :, -1:].astype(np.uint16), 1)
    colours = (levels[:, :, :-1].astype(np.uint16) * 255 + alpha // 2) // alpha
    return np.concatenate([np.minimum(colours, 255).astype(np.uint8), levels[:, :, -1:]], axis=2)


def _unsupported() -> InvalidImage:
    return InvalidImage("this kind of TIFF is not supported")
