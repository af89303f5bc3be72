"""How well masks fit labelled outlines of faces, as figures and as a sheet of pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.charts import Bars
from evaluation.errors import EvaluationError
from evaluation.masks.overlap import mask_faces
from evaluation.outlines import Points, fill_oval, read_ovals
from evaluation.portraits import Finder, picture_files
from evaluation.report import Report, Table, Track, cell, silent
from evaluation.sheets import Cell, Sheet, around
from pipeline.config import PassConfig
from pipeline.stages import FaceSegmenter
from pipeline.types import Image

BAD_IOU = 0.8

_FACES_A_ROW = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """`data`: a folder of pictures; `labels`: a JSON file of outlines; `every`: takes every Nth
    picture; `limit`: of those, only the first so many.
    """

    data: Path
    labels: Path
    every: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Stages:
    """What finds and masks faces. `config`: of the pass that the faces are cut for."""

    find: Finder
    segmenter: FaceSegmenter
    config: PassConfig


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled face's figures, as in `Masked`."""

    name: str
    iou: float | None
    ellipse_iou: float | None
    fell_back: bool


def run(
    plan: Plan, sheet: Path | None, load: Callable[[], Stages], track: Track = silent
) -> Report:
    """Find labelled faces, mask them, and compare the masks with the labels.

    Args:
        plan: what is measured.
        sheet: the PNG to draw the masks into.
        load: gives the stages; called once folder and labels are known to be readable.
        track: shows how far it is.

    Raises:
        EvaluationError: a folder or file is not what it should be.
    """
    page = Sheet(sheet, ["green: label, red: mask"] * _FACES_A_ROW)
    files = picture_files(plan.data, plan.every)[: plan.limit]
    ovals = read_ovals(plan.labels)
    stages = load()
    rows: list[Row] = []
    for masked in mask_faces(
        track(files, "Pictures"), ovals, stages.find, stages.segmenter, stages.config
    ):
        rows.append(Row(masked.name, masked.iou, masked.ellipse_iou, masked.fell_back))
        if masked.mask is not None and masked.face is not None:
            drawn = Image(_outlined(masked.image, masked.mask, masked.oval))
            page.add([Cell(around(drawn, masked.face), f"{masked.name}, {masked.iou:.2f}")])
    page.finish()
    if not rows:
        raise EvaluationError(f"{plan.labels} has no outline for a picture in {plan.data}.")
    figures = summary(rows)
    headline = (
        f"{figures['faces']} labelled faces, {figures['not_found']} of them not found; "
        f"the ellipse served for {figures['fell_back']}"
    )
    everything = {**figures, "rows": [asdict(row) for row in rows]}
    means = {name: [figures[name]["mean_iou"]] for name in ("mask", "ellipse")}
    bars = Bars("mean IoU with the labels", ("labelled faces",), means)
    return Report(headline, (_table(figures),), everything, (bars,))


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
    rows = []
    for name in ("mask", "ellipse"):
        mean, worst, bad = figures[name].values()
        rows.append((name, cell(mean, ".3f"), cell(worst, ".3f"), cell(bad, ".1%")))
    return Table(("", "mean IoU", "worst IoU", f"below {BAD_IOU:g}"), tuple(rows))


def _outlined(image: Image, mask: NDArray[np.bool_], oval: Points) -> NDArray[np.uint8]:
    """The picture with the label's outline in green, and the mask's in red above it."""
    pixels = image.pixels.copy()
    wanted = fill_oval(oval, image.height_px, image.width_px)
    for area, colour in ((wanted, (0, 255, 0)), (mask.astype(np.uint8), (255, 0, 0))):
        outlines, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(pixels, outlines, -1, colour, 1)
    return pixels
