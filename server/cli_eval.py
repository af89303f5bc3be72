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


@app.command()
def restore(
    data: Annotated[Path, typer.Option(help="Folder of portraits, one upright face each.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help='Their faces: {"a.jpg": [{"box": [x0, y0, x1, y1]}]}. '
            "Default: what the detector finds."
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Take every Nth picture; tiny learned from 9 of every 10.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take at most so many of them, the first.")
    ] = None,
    denoise: Annotated[float, typer.Option(min=0, max=1, help="As in a request.")] = 0.4,
    prompt: Annotated[str, typer.Option(help="As in a request.")] = "detailed face",
    levels: Annotated[
        str, typer.Option(help="Which damages, by commas.")
    ] = "none,light,medium,heavy",
    side_px: Annotated[
        int, typer.Option("--side", min=64, help="Longer side of the pictures that are damaged.")
    ] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same damage.")] = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw damaged, result and clean into this PNG.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the figures into this file too.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="auto, tiny or sdxl.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, …")] = None,
) -> None:
    """Restoration: known pictures are damaged, detailed and compared with what they were."""
    from server.evaluation.extra import require
    from server.settings import read_settings

    require("dlib", "face_recognition_models", "piq", "skimage")
    from server.evaluation.run_restore import Plan, run

    plan = Plan(data, labels, every, limit, levels, side_px, seed, prompt, denoise)
    run(plan, sheet, output, read_settings(profile=profile, devices=device))
