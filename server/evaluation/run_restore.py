"""`face-detailer eval restore`: damages, details, prints, writes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.detailer import FaceDetailer
from pipeline.request import DetailRequest
from pipeline.types import Image
from server import logs
from server.cli_models import load_detailer
from server.cli_tables import new_table, print_table
from server.errors import OperatorError
from server.evaluation.damages import LEVELS
from server.evaluation.likeness import Likeness
from server.evaluation.output import cell, shown, write_json
from server.evaluation.portraits import NO_PORTRAIT, each_portrait, picture_files
from server.evaluation.restoration import Case, Restored, restore
from server.evaluation.sheets import Cell, Sheet, around
from server.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, as the command's options say; `levels` as they were typed."""

    data: Path
    labels: Path | None
    every: int
    limit: int | None
    levels: str
    side_px: int
    seed: int
    prompt: str
    denoise: float


@dataclass(frozen=True, slots=True)
class Row:
    """One picture's figures by level."""

    name: str
    cases: dict[str, Case]


def run(plan: Plan, sheet: Path | None, output: Path | None, settings: Settings) -> None:
    """Print the figures as a table; draw them into `sheet`, write them to `output` as JSON.

    Raises:
        OperatorError: a folder, file or level is not what it should be, or the weights are not
            there.
    """
    logs.configure("warning")
    levels = _levels(plan.levels)
    page = Sheet(sheet, _headings(levels))
    console = Console(stderr=True)
    files = picture_files(plan.data, plan.every)[: plan.limit]
    detailer = load_detailer(settings, console)
    rows: list[Row] = []
    for restored in _restored(plan, levels, files, detailer, console):
        rows.append(Row(restored.name, restored.cases))
        page.add(_cells(restored))
    page.finish()
    if not rows:
        raise OperatorError(NO_PORTRAIT)
    means = {level: summary([row.cases[level] for row in rows]) for level in levels}
    print(
        f"{len(rows)} of {len(files)} pictures at {plan.side_px} px, denoise {plan.denoise:g}; "
        "damaged → result, means over the faces"
    )
    print_table(_table(means))
    if output is not None:
        write_json(output, _report(plan, detailer.profile.name, means, rows))


def _levels(text: str) -> list[str]:
    levels = [level.strip() for level in text.split(",")]
    unknown = [level for level in levels if level not in LEVELS]
    if unknown:
        raise OperatorError(f"There is no level {unknown[0]!r}: {', '.join(LEVELS)}.")
    return levels


def _restored(
    plan: Plan,
    levels: Sequence[str],
    files: Sequence[Path],
    detailer: FaceDetailer,
    console: Console,
) -> Iterator[Restored]:
    nothing = Image(np.zeros((1, 1, 3), np.uint8))
    request = DetailRequest(nothing, prompt=plan.prompt, denoise=plan.denoise)
    portraits = each_portrait(
        shown(files, console),
        plan.labels,
        lambda image: detailer.find_faces(DetailRequest(image, prompt="", denoise=plan.denoise)),
    )
    return restore(
        portraits, detailer, request, levels=levels, side_px=plan.side_px, seed=plan.seed
    )


def summary(cases: Sequence[Case]) -> dict[str, Any]:
    """The means of one level; `identity_change`: of the means, as a share of the damaged one's."""
    names = [field.name for field in fields(Likeness)]
    means = {
        side: {name: fmean(getattr(getattr(case, side), name) for case in cases) for name in names}
        for side in ("damaged", "result")
    }
    before, after = (means[side]["identity"] for side in ("damaged", "result"))
    seams = [case.seam_delta_e for case in cases if case.seam_delta_e is not None]
    return {
        "faces": len(cases),
        "not_found": sum(not case.found for case in cases),
        **means,
        "identity_change": after / before - 1 if before else None,
        "seam_delta_e": fmean(seams) if seams else None,
        "seconds": fmean(case.seconds for case in cases),
    }


def _table(means: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ("PSNR dB", "SSIM", "1 − HaarPSI", "identity", "change", "sharpness", "seam ΔE", "s")
    table = new_table("level", "faces", "not found", *columns)
    for level, row in means.items():
        table.add_row(
            level,
            str(row["faces"]),
            str(row["not_found"]),
            _pair(row, "psnr_db", ".2f"),
            _pair(row, "ssim", ".3f"),
            _pair(row, "haarpsi", ".3f"),
            _pair(row, "identity", ".3f"),
            cell(row["identity_change"], "+.1%"),
            _pair(row, "sharpness", ".0%"),
            cell(row["seam_delta_e"], ".2f"),
            cell(row["seconds"], ".2f"),
        )
    return table


def _pair(row: Mapping[str, Any], name: str, form: str) -> str:
    return " → ".join(format(row[side][name], form) for side in ("damaged", "result"))


def _report(
    plan: Plan, profile: str, means: Mapping[str, object], rows: Sequence[Row]
) -> dict[str, object]:
    return {
        "profile": profile,
        "side_px": plan.side_px,
        "prompt": plan.prompt,
        "denoise": plan.denoise,
        "seed": plan.seed,
        "boxes": "own" if plan.labels is None else "labels",
        "levels": means,
        "pictures": [asdict(row) for row in rows],
    }


def _headings(levels: Sequence[str]) -> list[str]:
    return [heading for level in levels for heading in (f"{level}: damaged", "result", "clean")]


def _cells(restored: Restored) -> list[Cell]:
    face = restored.clean.face
    clean = Cell(around(restored.clean.image, face), restored.name)
    cells = []
    for level, (before, after) in restored.pictures.items():
        case = restored.cases[level]
        cells += [
            Cell(around(before, face), _caption(case.damaged)),
            Cell(around(after, face), _caption(case.result) if case.found else "not found"),
            clean,
        ]
    return cells


def _caption(likeness: Likeness) -> str:
    return f"{likeness.psnr_db:.1f} dB, identity {likeness.identity:.2f}"
