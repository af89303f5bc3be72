"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from server import cli_accounts, cli_eval, cli_weights
from server.errors import OperatorError

app = typer.Typer(
    name="face-detailer",
    help="Self-hosted face detailing: Segmind's POST /v1/face-detailer, served from your own GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_weights.app, name="weights")
app.add_typer(cli_eval.app, name="eval")
app.add_typer(cli_accounts.keys_app, name="keys")
app.add_typer(cli_accounts.credits_app, name="credits")

Device = Annotated[
    list[str] | None,
    typer.Option("--device", help="cpu, cuda:0, …; several times for several. Default: all GPUs."),
]


Profile = Annotated[
    str | None,
    typer.Option(
        help="tiny, sdxl, a profile file (.toml), or auto: sdxl where CUDA is, else tiny."
    ),
]


@app.command()
def serve(
    profile: Profile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    device: Device = None,
) -> None:
    """Serve the HTTP API. Everything else is set by FACE_DETAILER_… variables: docs/settings.md."""
    from server.serving import serve as run
    from server.settings import read_settings

    devices = ",".join(device) if device else None
    run(read_settings(profile=profile, host=host, port=port, devices=devices))


@app.command()
def detail(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN…", help="Pictures.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A file (its ending tells the format), or a folder."),
    ],
    prompt: Annotated[str, typer.Option(help="What the faces should look like.")],
    denoise: Annotated[str, typer.Option(help="0–1: how much may change; 0.4 is usual.")],
    negative_prompt: Annotated[str | None, typer.Option(help="What to avoid.")] = None,
    samples: Annotated[str | None, typer.Option(help="Variants per picture, 1–4.")] = None,
    num_inference_steps: Annotated[str | None, typer.Option(help="15–75.")] = None,
    guidance_scale: Annotated[str | None, typer.Option(help="5–10.")] = None,
    seed: Annotated[str | None, typer.Option(help="-1 draws one.")] = None,
    image_format: Annotated[
        str | None, typer.Option(help="jpeg, png or webp, where OUT is a folder.")
    ] = None,
    image_quality: Annotated[str | None, typer.Option(help="10–100, for JPEG and WebP.")] = None,
    upscale: Annotated[str | None, typer.Option(help="1, 2 or 4.")] = None,
    passes: Annotated[str | None, typer.Option(help="both, detail or auto.")] = None,
    keep_healthy: Annotated[
        str | None, typer.Option(help="false: large, sharp faces may change as much as others.")
    ] = None,
    max_faces: Annotated[str | None, typer.Option(help="Only the largest N.")] = None,
    min_face_px: Annotated[str | None, typer.Option(help="Leave smaller faces alone.")] = None,
    face_order: Annotated[
        str | None, typer.Option(help="size, left-right, top-bottom or score.")
    ] = None,
    detection_threshold: Annotated[str | None, typer.Option(help="0–1.")] = None,
    profile: Profile = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, …")] = None,
    overwrite: Annotated[bool, typer.Option(help="OUT may replace an input.")] = False,
    steps: Annotated[
        Path | None,
        typer.Option(help="Put a picture of each step into this folder.", metavar="DIR"),
    ] = None,
) -> None:
    """Detail the faces of pictures, on this machine, without a server."""
    from server.cli_detail import run
    from server.settings import read_settings

    fields = {
        "prompt": prompt,
        "denoise": denoise,
        "negative_prompt": negative_prompt,
        "samples": samples,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "image_format": image_format,
        "image_quality": image_quality,
        "upscale": upscale,
        "passes": passes,
        "keep_healthy": keep_healthy,
        "max_faces": max_faces,
        "min_face_px": min_face_px,
        "face_order": face_order,
        "detection_threshold": detection_threshold,
    }
    settings = read_settings(profile=profile, devices=device)
    raise typer.Exit(run(inputs, output, fields, settings, overwrite=overwrite, steps=steps))


@app.command()
def detect(
    picture: Annotated[Path, typer.Argument(metavar="IN", help="A picture.")],
    overlay: Annotated[
        Path | None,
        typer.Option(help="Draw boxes, scores, crops and masks into this file.", metavar="OUT"),
    ] = None,
    max_faces: Annotated[str | None, typer.Option(help="Only the largest N.")] = None,
    min_face_px: Annotated[str | None, typer.Option(help="Leave smaller faces alone.")] = None,
    face_order: Annotated[
        str | None, typer.Option(help="size, left-right, top-bottom or score.")
    ] = None,
    detection_threshold: Annotated[str | None, typer.Option(help="0–1.")] = None,
    profile: Profile = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, …")] = None,
) -> None:
    """Show which faces of a picture would be detailed, and why others would not."""
    from server.cli_detect import run
    from server.settings import read_settings

    fields = {
        "max_faces": max_faces,
        "min_face_px": min_face_px,
        "face_order": face_order,
        "detection_threshold": detection_threshold,
    }
    run(picture, overlay, fields, read_settings(profile=profile, devices=device))


@app.command()
def bench(
    weights: Annotated[
        str, typer.Option(help="profile: the real ones. random: SDXL's sizes, no download.")
    ] = "profile",
    profile: Profile = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:0, …; meta: count, run nothing.")
    ] = None,
    memory_mode: Annotated[str | None, typer.Option(help="resident, offload or low.")] = None,
    faces: Annotated[int, typer.Option(min=1, max=64, help="How many.")] = 4,
    face_px: Annotated[int, typer.Option(min=16, max=4096, help="A face's side.")] = 384,
    size_px: Annotated[int, typer.Option(min=64, max=8192, help="The picture's side.")] = 1536,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Steps a pass.")] = 20,
    upscale: Annotated[int, typer.Option(help="1, 2 or 4.")] = 2,
    stock: Annotated[bool, typer.Option(help="Compare with diffusers' own pipeline.")] = True,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures too.")] = None,
) -> None:
    """Show what a device does with a profile: seconds, TFLOP/s, memory, faces a minute."""
    from pipeline.benchmark.job import BenchJob
    from server.cli_bench import bench as run
    from server.errors import OperatorError
    from server.settings import read_settings

    if upscale not in (1, 2, 4):
        raise OperatorError("--upscale should be 1, 2 or 4.")
    job = BenchJob(faces, face_px, size_px, steps, upscale)
    counted = device == "meta"
    devices = None if counted else device
    settings = read_settings(profile=profile, devices=devices, memory_mode=memory_mode)
    run(job, settings, weights, output, stock=stock, counted=counted)


def main() -> None:
    """The console script. Expected errors are one sentence on standard error, and exit code 1."""
    try:
        app()
    except OperatorError as error:
        print(f"face-detailer: {error}", file=sys.stderr)
        sys.exit(1)
