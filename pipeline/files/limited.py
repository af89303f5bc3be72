"""Headers read within a limit."""

import io
import math
from typing import Final, TypeVar

from PIL import ImageFile

ImageFileType = TypeVar("ImageFileType", bound=ImageFile.ImageFile)

# A file of 50 MB in pieces of four bytes would keep Pillow at its header for minutes. Files of
# cameras and editors take some hundred reads.
_HEADER_READS: Final = 50_000


class LimitedFile(io.BytesIO):
    """A file that may be read so many times more."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads_left: float = _HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As `io.BytesIO.read`.

        Raises:
            OSError: it was read too often.
        """
        self.reads_left -= 1
        if self.reads_left < 0:
            raise OSError("the header is in too many pieces")
        return super().read(size)


def open_limited(reader: type[ImageFileType], data: bytes) -> ImageFileType:
    """A file with its header read by one of Pillow's readers.

    Raises:
        OSError: its header is in too many pieces; or what else the reader makes of a broken file.
    """
    file = LimitedFile(data)
    image = reader(file)
    file.reads_left = math.inf
    return image
