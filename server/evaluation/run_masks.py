"""`face-detailer eval masks`: finds, masks, compares with labels, prints, writes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipeline.config import read_profile
from pipeline.loading import load_finder
from pipeline.models.sam import load_segmenter
from pipeline.types import Image
from server import logs
from server.cli_models import loading
from server.cli_tables import new_table, print_table
from server.errors import OperatorError
from server.evaluation.masking import mask_faces, read_ovals
from server.evaluation.output import cell, shown, write_json
from server.evaluation.portraits import picture_files
from server.evaluation.sheets import Cell, Sheet, around
from server.settings import Settings
from weights.training.labelled import Points, fill_oval

BAD_IOU = 0.8

_FACES_A_ROW = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, as the command's options say."""

    data: Path
    labels: Path
    every: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled face's figures, as in `Masked`."""

    name: str
    iou: float | None
    ellipse_iou: float | None
    fell_back: bool


def run(plan: Plan, sheet: Path | None, output: Path | None, settings: Settings) -> None:
    """Print the figures as a table; draw the masks into `sheet`, write them to `output` as JSON.

    Raises:
        OperatorError: a folder or file is not what it should be, or the weights are not there.
    """
    logs.configure("warning")
    page = Sheet(sheet, ["green: label, red: mask"] * _FACES_A_ROW)
    console = Console(stderr=True)
    files = picture_files(plan.data, plan.every)[: plan.limit]
    ovals = read_ovals(plan.labels)
    with loading(settings, console) as (path, device):
        profile = read_profile(path)
        find = load_finder(path, device)
        segmenter = load_segmenter(profile.folder, profile.segmenter, device)
    rows: list[Row] = []
    for masked in mask_faces(shown(files, console), ovals, find, segmenter, profile.detail):
        rows.append(Row(masked.name, masked.iou, masked.ellipse_iou, masked.fell_back))
        if masked.mask is not None and masked.find is not None:
            drawn = Image(_outlined(masked.image, masked.mask, masked.oval))
            page.add([Cell(around(drawn, masked.find), f"{masked.name}, {masked.iou:.2f}")])
    page.finish()
    if not rows:
        raise OperatorError(f"{plan.labels} has no outline for a picture in {plan.data}.")
    figures = summary(rows)
    print(
        f"{figures['faces']} labelled faces, {figures['not_found']} of them not found; "
        f"the ellipse served for {figures['fell_back']}"
    )
    print_table(_table(figures))
    if output is not None:
        faces = [asdict(row) for row in rows]
        write_json(output, {"profile": profile.name, **figures, "rows": faces})


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures over the faces that were found; None without any."""
    return {
        "faces": len(rows),
        "not_found": sum(row.iou is None for row in rows),
        "fell_back": sum(row.fell_back for row in rows),
        "mask": _spread([row.iou for row in rows if row.iou is not None]),
        "ellipse": _spread([row.ellipse_iou for row in rows if row.ellipse_iou is not None]),
    }


def _spread(ious: Sequence[float]) -> dict[str, float | None]:
    return {
        "mean_iou": fmean(ious) if ious else None,
        "worst_iou": min(ious, default=None),
        "bad_share": fmean(iou < BAD_IOU for iou in ious) if ious else None,
    }


def _table(figures: Mapping[str, Any]) -> Table:
    table = new_table("", "mean IoU", "worst IoU", f"below {BAD_IOU:g}")
    for name in ("mask", "ellipse"):
        mean, worst, bad = figures[name].values()
        table.add_row(name, cell(mean, ".3f"), cell(worst, ".3f"), cell(bad, ".1%"))
    return table


def _outlined(image: Image, mask: NDArray[np.bool_], oval: Points) -> NDArray[np.uint8]:
    """The picture with the label's outline in green, and the mask's in red above it."""
    pixels = image.pixels.copy()
    wanted = fill_oval(oval, image.height_px, image.width_px)
    for area, colour in ((wanted, (0, 255, 0)), (mask.astype(np.uint8), (255, 0, 0))):
        outlines, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(pixels, outlines, -1, colour, 1)
    return pixels
