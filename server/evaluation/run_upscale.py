"""`face-detailer eval upscale`: shrinks, enlarges, compares, prints, writes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.types import Image
from server import logs
from server.cli_models import load_detailer
from server.cli_tables import new_table, print_table
from server.errors import OperatorError
from server.evaluation.output import shown, write_json
from server.evaluation.portraits import picture_files
from server.evaluation.sheets import CELL_PX, Cell, Sheet
from server.evaluation.upscaling import SMALLEST_PX, TIMED_PX, Enlarged, Quality, enlarge, seconds
from server.settings import Settings

FACTORS = (2, 4)
METHODS = ("Lanczos", "upscaler")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, as the command's options say."""

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


def run(plan: Plan, sheet: Path | None, output: Path | None, settings: Settings) -> None:
    """Print the figures as a table; draw crops into `sheet`, write them to `output` as JSON.

    Raises:
        OperatorError: a folder or file is not what it should be, or the weights are not there.
    """
    logs.configure("warning")
    page = Sheet(sheet, [f"x{f}: {name}" for f in FACTORS for name in (*METHODS, "original")])
    console = Console(stderr=True)
    files = picture_files(plan.data, plan.every)[: plan.limit]
    detailer = load_detailer(settings, console)
    rows: list[Row] = []
    for enlarged in enlarge(shown(files, console), detailer, FACTORS, plan.largest_px):
        rows.append(Row(enlarged.name, enlarged.factor, enlarged.quality))
        page.add(_cells(enlarged))
    page.finish()
    if not rows:
        raise OperatorError(f"No picture in {plan.data} has sides of {SMALLEST_PX} px or more.")
    means = {factor: summary([row for row in rows if row.factor == factor]) for factor in FACTORS}
    timed_s = seconds(detailer)
    print(
        f"{len(rows) // len(FACTORS)} of {len(files)} pictures, shrunk by area; "
        f"{TIMED_PX}² → {2 * TIMED_PX}² px in {timed_s:.2f} s"
    )
    print_table(_table(means))
    if output is not None:
        report = {
            "profile": detailer.profile.name,
            "largest_px": plan.largest_px,
            "seconds": timed_s,
            "factors": means,
            "pictures": [asdict(row) for row in rows],
        }
        write_json(output, report)


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
    table = new_table("factor", *columns[:2], "gain dB", *columns[2:])
    for factor, figures in means.items():
        lanczos, upscaler = (figures[method] for method in METHODS)
        table.add_row(
            f"×{factor}",
            f"{lanczos['psnr_db']:.2f}",
            f"{upscaler['psnr_db']:.2f}",
            f"{upscaler['psnr_db'] - lanczos['psnr_db']:+.2f}",
            f"{lanczos['ssim']:.4f}",
            f"{upscaler['ssim']:.4f}",
        )
    return table


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
