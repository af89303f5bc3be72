"""Contact sheets: pictures side by side in labelled rows, a page of them per file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from pipeline.compositing import cut
from pipeline.types import CropRegion, FaceBox, Image

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
    """Rows of cells below headings, written page by page: `a.png`, `a-2.png` and so on."""

    file: Path
    headings: Sequence[str]
    _rows: list[Sequence[Cell]] = field(default_factory=list)
    _pages: int = 0

    def add(self, row: Sequence[Cell]) -> None:
        """One more row; a full page is written."""
        self._rows.append(row)
        if len(self._rows) == ROWS_A_PAGE:
            self.finish()

    def finish(self) -> None:
        """Write the rows that no page has yet."""
        if not self._rows:
            return
        self._pages += 1
        file = self.file
        if self._pages > 1:
            file = file.with_stem(f"{file.stem}-{self._pages}")
        file.parent.mkdir(parents=True, exist_ok=True)
        _draw(self.headings, self._rows).save(file)
        self._rows = []


def around(image: Image, face: FaceBox, factor: float = 1.6) -> NDArray[np.uint8]:
    """The square `factor` times as large as the face, about it, for a cell."""
    region = CropRegion(face.centre_xy, factor * face.longer_px, CELL_PX)
    return cut(image, face, region).image.pixels


def _draw(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> PIL.Image.Image:
    step_x, step_y = CELL_PX + _GAP_PX, CELL_PX + _CAPTION_PX + _GAP_PX
    page = PIL.Image.new("RGB", (step_x * len(headings), _CAPTION_PX + step_y * len(rows)), "white")
    pen, font = PIL.ImageDraw.Draw(page), PIL.ImageFont.load_default(_FONT_PX)
    for column, heading in enumerate(headings):
        pen.text((column * step_x + 2, 0), heading, "black", font)
    for number, row in enumerate(rows):
        top = _CAPTION_PX + number * step_y
        for column, cell in enumerate(row):
            page.paste(PIL.Image.fromarray(cell.pixels), (column * step_x, top))
            pen.text((column * step_x + 2, top + CELL_PX), cell.caption, "black", font)
    return page
