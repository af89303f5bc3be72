"""Contact sheets: pictures side by side in labelled rows, a page of them per file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from evaluation.errors import BadPlan, EvaluationError
from pipeline.compositing import cut
from pipeline.types import CropRegion, FaceBox, Image
from weights.files import replacing

CELL_PX = 192
ROWS_A_PAGE = 12

_CAPTION_PX = 16
_GAP_PX = 4
_FONT_PX = 12


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A square picture, CELL_PX a side, and what stands below it."""

    pixels: NDArray[np.uint8]
    caption: str


@dataclass(slots=True)
class Sheet:
    """Cells in rows below headings, written page by page: `a.png`, `a-2.png` and so on.

    `file` None: nothing is kept or written. Raises EvaluationError where it is no PNG, or cannot be
    written.
    """

    file: Path | None
    headings: Sequence[str]
    _cells: list[Cell] = field(default_factory=list)
    _pages: int = 0

    def __post_init__(self) -> None:
        if self.file is not None and self.file.suffix.lower() != ".png":
            raise BadPlan(f"{self.file} should end in .png.")

    def add(self, cells: Iterable[Cell]) -> None:
        """The next cells, left to right; a full page is written."""
        for cell in cells if self.file else ():
            self._cells.append(cell)
            if len(self._cells) == ROWS_A_PAGE * len(self.headings):
                self.finish()

    def finish(self) -> None:
        """Write what no page has yet."""
        if self.file is None or not self._cells:
            return
        self._pages += 1
        stem = self.file.stem if self._pages == 1 else f"{self.file.stem}-{self._pages}"
        try:
            with replacing(self.file.with_stem(stem)) as part:
                _draw(self.headings, self._cells).save(part, "PNG")
        except OSError as error:
            raise EvaluationError(f"{self.file}: {error.strerror}") from error
        self._cells = []


def around(image: Image, face: FaceBox, factor: float = 1.6) -> NDArray[np.uint8]:
    """The square `factor` times as large as the face, about it, for a cell."""
    region = CropRegion(face.centre_xy, factor * face.longer_px, CELL_PX)
    return cut(image, face, region).image.pixels


def _draw(headings: Sequence[str], cells: Sequence[Cell]) -> PIL.Image.Image:
    step_x, step_y = CELL_PX + _GAP_PX, CELL_PX + _CAPTION_PX + _GAP_PX
    rows = -(-len(cells) // len(headings))
    page = PIL.Image.new("RGB", (step_x * len(headings), _CAPTION_PX + step_y * rows), "white")
    pen, font = PIL.ImageDraw.Draw(page), PIL.ImageFont.load_default(_FONT_PX)
    for column, heading in enumerate(headings):
        pen.text((column * step_x + 2, 0), heading, "black", font)
    for number, cell in enumerate(cells):
        row, column = divmod(number, len(headings))
        left, top = column * step_x, _CAPTION_PX + row * step_y
        page.paste(PIL.Image.fromarray(cell.pixels), (left, top))
        pen.text((left + 2, top + CELL_PX), cell.caption, "black", font)
    return page
