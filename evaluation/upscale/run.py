"""How near to the original the upscaler comes, as figures and as a sheet of pictures."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np

from evaluation.charts import Bars
from evaluation.errors import EvaluationError
from evaluation.portraits import picture_files
from evaluation.report import Report, Table, Track, silent
from evaluation.sheets import CELL_PX, Cell, Sheet
from evaluation.upscale.quality import SMALLEST_PX, TIMED_PX, Enlarged, Quality, enlarge, seconds
from pipeline.detailer import FaceDetailer
from pipeline.types import Image

FACTORS = (2, 4)
METHODS = ("Lanczos", "upscaler")


@dataclass(frozen=True, slots=True)
class Plan:
    """`data`: a folder of photographs; `every`: takes every Nth; `limit`: of those, only the first
    so many; `largest_px`: of each the middle, at most so long and wide.
    """

    data: Path
    every: int
    limit: int | None
    largest_px: int


@dataclass(frozen=True, slots=True)
class Row:
    """One picture at one factor."""

    name: str
    factor: int
    quality: dict[str, Quality]


def run(
    plan: Plan, sheet: Path | None, load: Callable[[], FaceDetailer], track: Track = silent
) -> Report:
    """Shrink photographs, enlarge them, and measure how near they come to what they were.

    Args:
        plan: what is measured.
        sheet: the PNG to draw parts of the pictures into.
        load: gives what enlarges; called once the folder is known to hold pictures.
        track: shows how far it is.

    Raises:
        EvaluationError: a folder or file is not what it should be.
    """
    page = Sheet(sheet, [f"x{f}: {name}" for f in FACTORS for name in (*METHODS, "original")])
    files = picture_files(plan.data, plan.every)[: plan.limit]
    detailer = load()
    rows: list[Row] = []
    for enlarged in enlarge(track(files, "Pictures"), detailer, FACTORS, plan.largest_px):
        rows.append(Row(enlarged.name, enlarged.factor, enlarged.quality))
        page.add(_cells(enlarged))
    page.finish()
    if not rows:
        raise EvaluationError(f"No picture in {plan.data} has sides of {SMALLEST_PX} px or more.")
    means = {factor: summary([row for row in rows if row.factor == factor]) for factor in FACTORS}
    timed_s = seconds(detailer)
    headline = (
        f"{len(rows) // len(FACTORS)} of {len(files)} pictures, shrunk by area; "
        f"{TIMED_PX}² → {2 * TIMED_PX}² px in {timed_s:.2f} s"
    )
    figures = {
        "largest_px": plan.largest_px,
        "seconds": timed_s,
        "factors": means,
        "pictures": [asdict(row) for row in rows],
    }
    return Report(headline, (_table(means),), figures, _bars(means))


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The means of one factor, by method."""
    return {
        method: {
            "psnr_db": fmean(row.quality[method].psnr_db for row in rows),
            "ssim": fmean(row.quality[method].ssim for row in rows),
        }
        for method in METHODS
    }


def _table(means: dict[int, dict[str, Any]]) -> Table:
    columns = [f"{figure} {method}" for figure in ("PSNR dB", "SSIM") for method in METHODS]
    rows = []
    for factor, figures in means.items():
        lanczos, upscaler = (figures[method] for method in METHODS)
        rows.append(
            (
                f"×{factor}",
                f"{lanczos['psnr_db']:.2f}",
                f"{upscaler['psnr_db']:.2f}",
                f"{upscaler['psnr_db'] - lanczos['psnr_db']:+.2f}",
                f"{lanczos['ssim']:.4f}",
                f"{upscaler['ssim']:.4f}",
            )
        )
    return Table(("factor", *columns[:2], "gain dB", *columns[2:]), tuple(rows))


def _bars(means: dict[int, dict[str, Any]]) -> tuple[Bars, ...]:
    """Each method's figures, by factor."""
    return tuple(
        Bars(
            unit,
            tuple(f"×{factor}" for factor in means),
            {method: [row[method][name] for row in means.values()] for method in METHODS},
        )
        for name, unit in (("psnr_db", "PSNR, dB"), ("ssim", "SSIM"))
    )


def _cells(enlarged: Enlarged) -> list[Cell]:
    """The same window of every picture: the one with the most detail."""
    rows, columns = _busiest(enlarged.original)
    captions = {name: f"{quality.psnr_db:.1f} dB" for name, quality in enlarged.quality.items()}
    pictures = {**enlarged.pictures, "original": enlarged.original}
    return [
        Cell(pictures[name].pixels[rows, columns], captions.get(name, enlarged.name))
        for name in (*METHODS, "original")
    ]


def _busiest(image: Image) -> tuple[slice, slice]:
    """Rows and columns of the window of a cell's size whose gradients are strongest."""
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = cv2.GaussianBlur(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), (0, 0), CELL_PX / 4)
    row, column = np.unravel_index(int(detail.argmax()), detail.shape)

    def span(at: int, side_px: int) -> slice:
        start = min(max(at - CELL_PX // 2, 0), max(side_px - CELL_PX, 0))
        return slice(start, min(start + CELL_PX, side_px))

    return span(int(row), image.height_px), span(int(column), image.width_px)
