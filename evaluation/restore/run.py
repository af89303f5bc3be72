"""How much nearer to what they were damaged faces come, as figures and as a sheet of pictures."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluation.charts import Bars
from evaluation.damages import LEVELS
from evaluation.errors import BadPlan, EvaluationError
from evaluation.likeness import Likeness
from evaluation.portraits import NO_PORTRAIT, each_portrait, picture_files
from evaluation.report import Report, Table, Track, cell, silent
from evaluation.restore.cases import Case, Restored, restore
from evaluation.sheets import Cell, Sheet, around
from pipeline.detailer import FaceDetailer
from pipeline.request import Recipe, Selection


@dataclass(frozen=True, slots=True)
class Plan:
    """`data`: a folder of portraits; `labels`: a JSON file of their faces, None: ask the detector;
    `every`: takes every Nth picture; `limit`: of those, only the first so many; `levels`: of
    `damages.LEVELS`; `side_px`: the longer side of the pictures to damage, as `seed` decides;
    `prompt`, `denoise`: as in a request.
    """

    data: Path
    labels: Path | None
    every: int
    limit: int | None
    levels: tuple[str, ...]
    side_px: int
    seed: int
    prompt: str
    denoise: float


@dataclass(frozen=True, slots=True)
class Row:
    """One picture's figures by level."""

    name: str
    cases: dict[str, Case]


def run(
    plan: Plan, sheet: Path | None, load: Callable[[], FaceDetailer], track: Track = silent
) -> Report:
    """Damage portraits, detail them, and measure how near they come to what they were.

    Args:
        plan: what is measured.
        sheet: the PNG to draw the faces into.
        load: gives what details; called once the options and the folder are known to be right.
        track: shows how far it is.

    Raises:
        EvaluationError: a folder, file or level is not what it should be.
    """
    unknown = [level for level in plan.levels if level not in LEVELS]
    if unknown:
        raise BadPlan(f"There is no level {unknown[0]!r}: {', '.join(LEVELS)}.")
    page = Sheet(sheet, _headings(plan.levels))
    files = picture_files(plan.data, plan.every)[: plan.limit]
    detailer = load()
    rows: list[Row] = []
    for restored in _restored(plan, track(files, "Pictures"), detailer):
        rows.append(Row(restored.name, restored.cases))
        page.add(_cells(restored))
    page.finish()
    if not rows:
        raise EvaluationError(NO_PORTRAIT)
    means = {level: summary([row.cases[level] for row in rows]) for level in plan.levels}
    headline = (
        f"{len(rows)} of {len(files)} pictures at {plan.side_px} px, denoise {plan.denoise:g}; "
        "damaged → result, means over the faces"
    )
    return Report(headline, (_table(means),), _figures(plan, means, rows), _bars(means))


def _restored(plan: Plan, files: Iterable[Path], detailer: FaceDetailer) -> Iterator[Restored]:
    portraits = each_portrait(
        files,
        plan.labels,
        lambda image: detailer.find_faces(image, Selection()),
    )
    recipe = Recipe(plan.prompt, plan.denoise)
    return restore(
        portraits, detailer, recipe, levels=plan.levels, side_px=plan.side_px, seed=plan.seed
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
    rows = [
        (
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
        for level, row in means.items()
    ]
    return Table(("level", "faces", "not found", *columns), tuple(rows))


def _bars(means: Mapping[str, Mapping[str, Any]]) -> tuple[Bars, ...]:
    """Before and after, by level."""
    sides = {"damaged": "damaged", "result": "detailed"}
    return tuple(
        Bars(
            unit,
            tuple(means),
            {shown: [row[side][name] for row in means.values()] for side, shown in sides.items()},
        )
        for name, unit in (("psnr_db", "PSNR, dB"), ("identity", "identity: distance, 0 is equal"))
    )


def _pair(row: Mapping[str, Any], name: str, form: str) -> str:
    return " → ".join(format(row[side][name], form) for side in ("damaged", "result"))


def _figures(plan: Plan, means: Mapping[str, object], rows: Sequence[Row]) -> dict[str, object]:
    return {
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
