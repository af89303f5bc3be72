"""What a picture file says beside its pixels, and what of it goes into results."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import PIL.Image
from PIL.ExifTags import IFD, Base

# Of no value in another file, or taken care of: how the pixels are stored and turned, where the
# picture was taken, what shows it in small. MakerNote may hold any of that, and counts its places
# from the start of the old file. XMP, IPTC, Photoshop's and ICC's data are not EXIF.
_STORAGE: Final = frozenset(
    (
        *range(0x00FE, 0x010B),
        Base.StripOffsets,
        Base.Orientation,
        *range(0x0115, 0x0119),
        Base.XResolution,
        Base.YResolution,
        Base.PlanarConfiguration,
        Base.ResolutionUnit,
        Base.TransferFunction,
        Base.Predictor,
        *range(0x013E, 0x0156),
        Base.JPEGTables,
        *range(0x0200, 0x0216),
        0x02BC,
        0x83BB,
        0x8649,
        Base.InterColorProfile,
        Base.GPSInfo,
        Base.ExifOffset,
    )
)
_OF_THE_OLD_FILE: Final = frozenset(
    (Base.MakerNote, Base.ExifImageWidth, Base.ExifImageHeight, Base.ExifInteroperabilityOffset)
)
_SRGB: Final = 1
_INCH: Final = 2
# A JPEG segment's longest, with room for the resolution.
_LONGEST_EXIF: Final = 65_000


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a result keeps of the file that it was made of.

    `dpi`: pixels per inch, across and down; None: not told. `exif`: as `PIL.Image.Exif` writes it,
    without resolution, orientation, GPS, thumbnails and maker notes.
    """

    dpi: tuple[float, float] | None = None
    exif: bytes | None = None

    def as_exif(self) -> bytes | None:
        """Both as EXIF; None if there is nothing to tell."""
        if self.dpi is None and self.exif is None:
            return None
        exif = PIL.Image.Exif()
        if self.exif is not None:
            exif.load(self.exif)
        if self.dpi is not None:
            exif[Base.XResolution], exif[Base.YResolution] = self.dpi
            exif[Base.ResolutionUnit] = _INCH
        return exif.tobytes()


def read_metadata(image: PIL.Image.Image, *, keep_exif: bool) -> Metadata:
    """What an opened file says, lying as it does; nothing of what is broken or makes no sense."""
    try:
        exif = PIL.Image.Image.getexif(image)
    except Exception:  # noqa: BLE001 - broken metadata is no reason to refuse good pixels
        exif = PIL.Image.Exif()
    dpi = _dpi(image, exif)
    try:
        return Metadata(dpi, _cleaned(exif) if keep_exif else None)
    except Exception:  # noqa: BLE001 - as above; Pillow raises whatever it likes
        return Metadata(dpi)


def _dpi(image: PIL.Image.Image, exif: PIL.Image.Exif) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    # Where JPEG tells none, Pillow says 72.
    if dpi is None or (image.format == "JPEG" and image.info.get("jfif_unit") not in (1, 2)):
        unit = {2: 1.0, 3: 2.54}.get(exif.get(Base.ResolutionUnit, _INCH), math.nan)
        return _sensible([exif.get(tag) for tag in (Base.XResolution, Base.YResolution)], unit)
    return _sensible(dpi, 1.0)


def _sensible(dpi: Any, unit: float) -> tuple[float, float] | None:
    try:
        x, y = (float(value) * unit for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 < x < 65536 and 1 < y < 65536 else None


def _cleaned(exif: PIL.Image.Exif) -> bytes | None:
    kept = PIL.Image.Exif()
    _copy(exif.items(), kept, _STORAGE)
    details: dict[int, Any] = {}
    _copy(exif.get_ifd(IFD.Exif).items(), details, _OF_THE_OLD_FILE)
    if details:
        details[Base.ColorSpace] = _SRGB
        kept.get_ifd(IFD.Exif).update(details)
    elif not kept:
        return None
    written = kept.tobytes()
    return written if len(written) <= _LONGEST_EXIF else None


def _copy(entries: Iterable[tuple[int, Any]], to: Any, left_out: frozenset[int]) -> None:
    for tag, value in entries:
        if tag not in left_out:
            to[tag] = value
