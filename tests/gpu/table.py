"""What the steps of tests/gpu/run.sh left in a folder, as one JSON file and as Markdown.

python tests/gpu/table.py FOLDER
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Rows = list[dict[str, Any]]


def read(folder: Path, step: str) -> Rows:
    """Nothing of a step that has not begun, or not come as far as its first case."""
    file = folder / f"{step}.json"
    return json.loads(file.read_text()) if file.exists() else []


def tests(folder: Path) -> Rows:
    file = folder / "tests.xml"
    if not file.exists():
        return []
    counts = [suite.attrib for suite in ElementTree.parse(file).iter("testsuite")]
    names = ("tests", "failures", "errors", "skipped")
    return [{name: sum(int(count[name]) for count in counts) for name in names}]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines) + "\n"


def share(one: float | None, other: float | None, digits: int = 2) -> str:
    return "–" if not one or not other else f"{one / other:.{digits}f}"


def benches(rows: Rows, peak: float | None) -> list[Sequence[object]]:
    return [
        (
            *(row["side"], row["faces"], row["compile"], row["ours_s"], row["stock_s"]),
            share(row["stock_s"], row["ours_s"]),
            row["tflops"],
            share(row["tflops"], peak),
            row["ours_peak_gib"],
            row["stock_peak_gib"],
        )
        for row in rows
        if "faces" in row
    ]


def markdown(found: dict[str, Rows]) -> str:
    about, *products = found["about"] or [{}]
    peaks = {row["kind"].removeprefix("torch."): row["tflops"] for row in products}
    named = [f"{about.get('card')}, {about.get('date')}, commit {about.get('commit')}"]
    named += [f"torch {about.get('torch')}", f"CUDA {about.get('cuda')}"]
    named += [f"{tflops} TFLOP/s of {kind} products" for kind, tflops in peaks.items()]
    text = f"{', '.join(named)}.\n\n"
    if about.get("pretended"):
        text += "The card was pretended: no figure below means anything.\n\n"
    for row in found["tests"]:
        text += f"Tests: {', '.join(f'{count} {name}' for name, count in row.items())}.\n\n"
    rows = [row for step, rows in found.items() if step.startswith("bench") for row in rows]
    head = (
        "crop",
        "faces",
        "compiled",
        "both passes s",
        "diffusers' s",
        "times as fast",
        "TFLOP/s",
    )
    text += table(
        (*head, "of the float16 peak", "peak GiB", "diffusers' GiB"),
        benches(rows, peaks.get("float16")),
    )
    for row in rows:
        if "compiled" in row:
            text += f"Compiling ({row['compiled']}) for {row['side']} px: {row['seconds']} s.\n\n"
    text += table(
        ("memory mode", "crop", "steps a pass", "repaint s", "peak GiB"),
        [tuple(row.values()) for row in found["modes"]],
    )
    for row in found["four"]:
        text += (
            f"{row['requests']} requests of {row['faces']} faces at a time, {row['side']} px: "
            f"{row['seconds']} s, {row['gib']} GiB, {row['reserved_gib']} GiB reserved.\n\n"
        )
    soak = found["soak"]
    if soak:
        text += table([*soak[-1]], [tuple(row.values()) for row in (soak[0], soak[-1])])
    return text


def main(folder: Path) -> None:
    benched = sorted(file.stem for file in folder.glob("bench-*.json"))
    steps = ("about", *benched, "modes", "four", "soak")
    found = {"tests": tests(folder), **{step: read(folder, step) for step in steps}}
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "table.md").write_text(markdown(found))
    print(markdown(found), end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
