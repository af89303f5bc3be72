"""From the `image` of a request (URL, base64, data URI or file) to a file with a good header."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from pipeline.errors import ImageTooLarge, InvalidImage
from pipeline.headers import read_header
from server.api.addresses import is_public
from server.api.encoded import from_utf_16, is_text, readings
from server.api.fetch import Fetcher, MayReach
from server.api.json_bodies import LongText, SentImage
from server.api.urls import ImpossibleUrl, literal_address, understood
from server.errors import BadImage, TooLarge
from server.settings import Settings

# Text of the largest allowed size is copied several times while it is decoded.
_CHECKS_AT_ONCE = 4
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """A file whose header is fine, and its size as that says (EXIF applied)."""

    data: bytes = field(repr=False)
    width_px: int
    height_px: int


class PictureReader:
    """Gets the bytes of a request's picture and reads their header; workers decode the pixels."""

    def __init__(self, settings: Settings) -> None:
        self._max_pixels = settings.max_image_pixels
        self._max_side_px = settings.max_side_px
        self._may_reach = reach_of(settings)
        self._checks = anyio.CapacityLimiter(_CHECKS_AT_ONCE)
        self._fetcher = Fetcher(
            max_bytes=settings.fetch_max_bytes,
            timeout_s=settings.fetch_timeout_s,
            may_reach=self._may_reach,
        )

    async def read(self, image: SentImage) -> CheckedPicture:
        """The picture that a request names or holds.

        Raises:
            BadImage: it cannot be had, or is no picture of the formats that are read.
            TooLarge: its file or its sides pass a limit.
        """
        url = self.url_of(image)
        return await self.read_sent(image if url is None else await self._fetcher.fetch(url))

    def url_of(self, image: SentImage) -> str | None:
        """Where the picture is to be fetched; None if it was sent itself. Nothing is looked up.

        Raises:
            BadImage: its URL has another scheme, is impossible, or names a private address.
        """
        text = image if isinstance(image, str) else ""
        scheme = _SCHEME.match(text)
        if scheme is None:
            return None
        if scheme[1].lower() not in ("http", "https"):
            raise BadImage("its URL must start with http:// or https://")
        try:
            address = literal_address(understood(text))
        except ImpossibleUrl as error:
            raise BadImage("its URL cannot be understood") from error
        if address is not None and not self._may_reach(address):
            raise BadImage("its URL does not lead to a public address")
        return text

    async def read_sent(self, image: SentImage) -> CheckedPicture:
        """As `read`, but nothing is fetched.

        Raises:
            BadImage: it is no picture of the formats that are read, or a URL.
            TooLarge: its file or its sides pass a limit.
        """
        return await anyio.to_thread.run_sync(self._check, image, limiter=self._checks)

    def _check(self, image: SentImage) -> CheckedPicture:
        first_problem: str | None = None
        for reading in _readings(image):
            try:
                return self._checked(reading)
            except BadImage as error:
                # The text alone: the error's traceback holds the reading, which is as large as a
                # body may be.
                first_problem = first_problem or str(error)
            del reading
        raise BadImage(first_problem or "it is neither an http(s) URL nor base64 nor a data URI")

    def _checked(self, data: bytes) -> CheckedPicture:
        try:
            header = read_header(data, max_pixels=self._max_pixels, max_side_px=self._max_side_px)
        except ImageTooLarge as error:
            raise TooLarge(str(error)) from error
        except InvalidImage as error:
            raise BadImage(str(error)) from error
        return CheckedPicture(data, header.width_px, header.height_px)


def _readings(image: SentImage) -> Iterator[bytes]:
    """What may be the picture's file, the likeliest first."""
    match image:
        case LongText():
            yield from readings(image.data, image.begin, image.end)
        case str():
            # Half a surrogate pair is no letter of base64, nor can it be sent in a URL.
            text = image.encode("utf-8", "replace")
            yield from readings(text, 0, len(text))
        case bytes():
            yield image
            text = from_utf_16(image) or image
            if is_text(text):
                yield from readings(text, 0, len(text))


def reach_of(settings: Settings) -> MayReach:
    """Which addresses the server may connect to on a stranger's word."""
    return _anywhere if settings.fetch_private_addresses else is_public


def _anywhere(_address: str) -> bool:
    return True
