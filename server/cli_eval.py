"""`face-detailer eval`: figures of a profile on pictures whose right answer is known."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Measure a profile.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure a profile on pictures whose right answer is known."""


@app.command()
def detect(
    data: Annotated[Path, typer.Option(help="Folder of portraits, one upright face each.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help='Their faces: {"a.jpg": [{"box": [x0, y0, x1, y1]}]}. '
            "Default: what the detector finds in each portrait alone."
        ),
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of pictures without faces. Default: drawn clouds.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Take every Nth picture; tiny learned from 9 of every 10.")
    ] = 1,
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes are composed.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the figures into this file too.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="auto, tiny or sdxl.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, …")] = None,
) -> None:
    """Detection: recall and precision on composed scenes, by the faces' size and turn."""
    from server.evaluation.report import Plan, run
    from server.settings import read_settings

    plan = Plan(data, labels, backgrounds, every, scenes, seed)
    run(plan, output, read_settings(profile=profile, devices=device))
