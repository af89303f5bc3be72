"""From the `image` of a request (URL, base64, data URI or file) to checked bytes."""

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import unquote, unquote_to_bytes

import anyio
import anyio.to_thread

from pipeline.errors import ImageTooLarge, InvalidImage
from pipeline.images import decode
from server.errors import BadImage, TooLarge
from server.fetch import Fetcher, is_public
from server.settings import Settings

# A picture of the largest allowed size takes hundreds of megabytes while it is checked.
_CHECKS_AT_ONCE = 4
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_DATA_URI = re.compile(r"data:([^,]*),(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """A file that was found readable, and its size as it will be seen (EXIF applied)."""

    data: bytes
    width_px: int
    height_px: int


class PictureReader:
    """Gets the bytes of a request's picture and finds out at once whether they can be read."""

    def __init__(self, settings: Settings) -> None:
        self._max_pixels = settings.max_image_pixels
        self._max_side_px = settings.max_side_px
        self._checks = anyio.CapacityLimiter(_CHECKS_AT_ONCE)
        self._fetcher = Fetcher(
            max_bytes=settings.fetch_max_bytes,
            timeout_s=settings.fetch_timeout_s,
            may_reach=_anywhere if settings.fetch_private_addresses else is_public,
        )

    async def read(self, image: str | bytes) -> CheckedPicture:
        """The picture that a request names or holds.

        Raises:
            BadImage: it cannot be had or cannot be read.
            TooLarge: its file or its sides pass a limit.
        """
        if isinstance(image, str) and (scheme := _SCHEME.match(image.strip())):
            if scheme[1].lower() not in ("http", "https"):
                raise BadImage("its URL must start with http:// or https://")
            image = await self._fetcher.fetch(image.strip())
        return await anyio.to_thread.run_sync(self._check, image, limiter=self._checks)

    def _check(self, image: str | bytes) -> CheckedPicture:
        data = from_text(image) if isinstance(image, str) else image
        try:
            picture = decode(data, max_pixels=self._max_pixels, max_side_px=self._max_side_px)
        except ImageTooLarge as error:
            raise TooLarge(str(error)) from error
        except InvalidImage as error:
            raise BadImage(str(error)) from error
        return CheckedPicture(data, picture.image.width_px, picture.image.height_px)


def _anywhere(_address: str) -> bool:
    return True


def from_text(text: str) -> bytes:
    """The bytes behind bare base64 or a data URI.

    Line breaks, missing padding and the URL-safe alphabet do no harm.

    Raises:
        BadImage: it is neither.
    """
    uri = _DATA_URI.fullmatch(text.strip())
    if uri and not uri[1].lower().rstrip().endswith(";base64"):
        return unquote_to_bytes(uri[2])
    encoded = "".join((unquote(uri[2]) if uri else text).split()).rstrip("=")
    encoded = encoded.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage("it is neither an http(s) URL nor base64 nor a data URI") from error
