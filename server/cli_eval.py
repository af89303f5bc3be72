"""`face-detailer eval`: figures of a profile on pictures whose right answer is known."""

from pathlib import Path
from typing import Annotated

import typer

Portraits = Annotated[Path, typer.Option(help="Folder of portraits, one upright face each.")]
Boxes = Annotated[
    Path | None,
    typer.Option(
        help='Their faces: {"a.jpg": [{"box": [x0, y0, x1, y1]}]}. '
        "Default: what the detector finds in each portrait alone."
    ),
]
Every = Annotated[
    int, typer.Option(min=1, help="Take every Nth picture; tiny learned from 9 of every 10.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Of those, take only the first so many.")]
Sheet = Annotated[Path | None, typer.Option(help="Draw a contact sheet into this PNG.")]
Output = Annotated[
    Path | None, typer.Option("--json", help="Write the figures into this file too.")
]
Profile = Annotated[str | None, typer.Option(help="auto, tiny or sdxl.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda:0, …")]

app = typer.Typer(help="Measure a profile.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure a profile on pictures whose right answer is known."""


@app.command()
def detect(
    data: Portraits,
    labels: Boxes = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of pictures without faces. Default: drawn clouds.")
    ] = None,
    every: Every = 1,
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes are composed.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes.")] = 0,
    output: Output = None,
    profile: Profile = None,
    device: Device = None,
) -> None:
    """Detection: recall and precision on composed scenes, by the faces' size and turn."""
    from server.evaluation.run_detect import Plan, run
    from server.settings import read_settings

    plan = Plan(data, labels, backgrounds, every, scenes, seed)
    run(plan, output, read_settings(profile=profile, devices=device))


@app.command()
def restore(
    data: Portraits,
    labels: Boxes = None,
    every: Every = 1,
    limit: Limit = None,
    denoise: Annotated[float, typer.Option(min=0, max=1, help="As in a request.")] = 0.4,
    prompt: Annotated[str, typer.Option(help="As in a request.")] = "detailed face",
    levels: Annotated[
        str, typer.Option(help="Which damages, with commas.")
    ] = "none,light,medium,heavy",
    side: Annotated[
        int, typer.Option(min=64, help="Longer side, in pixels, of the pictures to damage.")
    ] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same damage.")] = 0,
    sheet: Sheet = None,
    output: Output = None,
    profile: Profile = None,
    device: Device = None,
) -> None:
    """Restoration: known faces are damaged, detailed and compared with what they were."""
    from server.evaluation.extra import require
    from server.settings import read_settings

    require("dlib", "face_recognition_models", "piq", "skimage")
    from server.evaluation.run_restore import Plan, run

    plan = Plan(data, labels, every, limit, levels, side, seed, prompt, denoise)
    run(plan, sheet, output, read_settings(profile=profile, devices=device))


@app.command()
def masks(
    data: Annotated[Path, typer.Option(help="Folder of pictures.")],
    labels: Annotated[
        Path,
        typer.Option(help='Outlines of their faces: {"a.jpg": [{"oval": [[x, y], …]}]}.'),
    ],
    every: Every = 1,
    limit: Limit = None,
    sheet: Sheet = None,
    output: Output = None,
    profile: Profile = None,
    device: Device = None,
) -> None:
    """Masks: how well they fit labelled outlines of faces, before they are grown."""
    from server.evaluation.run_masks import Plan, run
    from server.settings import read_settings

    plan = Plan(data, labels, every, limit)
    run(plan, sheet, output, read_settings(profile=profile, devices=device))


@app.command()
def upscale(
    data: Annotated[Path, typer.Option(help="Folder of sharp photographs.")],
    every: Every = 1,
    limit: Limit = None,
    side: Annotated[
        int, typer.Option(min=64, help="Take the middle, at most so many pixels a side.")
    ] = 1024,
    sheet: Sheet = None,
    output: Output = None,
    profile: Profile = None,
    device: Device = None,
) -> None:
    """Enlargement: photographs are shrunk by 2 and 4, and enlarged again, also by Lanczos."""
    from server.evaluation.extra import require
    from server.settings import read_settings

    require("skimage")
    from server.evaluation.run_upscale import Plan, run

    run(
        Plan(data, every, limit, side),
        sheet,
        output,
        read_settings(profile=profile, devices=device),
    )
