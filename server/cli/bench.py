"""`face-detailer bench`: what a device does with a profile, as tables and as JSON."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.interrupting import BEGINS_AGAIN, stoppable
from server.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from evaluation.bench import BenchReport, BenchSetup
    from server.settings import Settings

_GIB = 2**30
_MOST_FACES = 64
_ACROSS = "faces in the picture"


def bench(
    weights: Annotated[
        str, typer.Option(help="profile: the real ones. random: SDXL's sizes, no download.")
    ] = "profile",
    profile: Annotated[
        str | None,
        typer.Option(
            help="tiny, sdxl, sdxl-fast, sdxl-inpainting, a profile file (.toml), or auto: sdxl "
            "where CUDA is, else tiny."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:0, …; meta: count, run nothing.")
    ] = None,
    memory_mode: Annotated[str | None, typer.Option(help="resident, offload or low.")] = None,
    compiled: Annotated[
        str | None, typer.Option("--compile", help="off, regional or full.")
    ] = None,
    faces: Annotated[
        str, typer.Option(metavar="N", help="How many; 1,2,4 measures each, one after the other.")
    ] = "4",
    face_px: Annotated[int, typer.Option(min=16, max=4096, help="A face's side.")] = 384,
    size_px: Annotated[int, typer.Option(min=64, max=8192, help="The picture's side.")] = 1536,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Steps a pass.")] = 20,
    upscale: Annotated[int, typer.Option(help="1, 2 or 4.")] = 2,
    stock: Annotated[bool, typer.Option(help="Compare with diffusers' own pipeline.")] = True,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the figures too, and a chart beside them.")
    ] = None,
) -> None:
    """Show what a device does with a profile: seconds, TFLOP/s, memory, faces a minute."""
    from rich.console import Console

    from evaluation.bench import Workload, count, run
    from evaluation.charts import chart_beside
    from server import logs
    from server.cli.outputs import check_folders
    from server.settings import read_settings

    if output is not None:
        check_folders([output, chart_beside(output)])
    if upscale not in (1, 2, 4):
        raise UsageError("--upscale should be 1, 2 or 4.")
    workloads = [Workload(n, face_px, size_px, steps, upscale) for n in _numbers(faces)]
    largest = workloads[-1]
    if size_px < largest.smallest_px:
        raise UsageError(
            f"{largest.faces} faces of {face_px} px need a picture of {largest.smallest_px} px."
        )
    counted = device == "meta"
    devices = None if counted else device
    settings = read_settings(
        profile=profile, devices=devices, memory_mode=memory_mode, compile=compiled
    )
    logs.configure("warning")
    setup = _setup(settings, weights, counted=counted)
    console = Console(stderr=True)
    if counted:
        what = "Counting the operations of every network: nothing is run; it takes minutes."
        console.print(what, highlight=False, soft_wrap=True)
    reports: list[BenchReport] = []
    try:
        with stoppable(lambda: _stopped(len(reports), len(workloads), output)):
            for workload in workloads:
                with console.status("") as status, _sentences(setup):
                    if counted:
                        report = count(setup, workload)
                    else:
                        report = run(setup, workload, stock=stock, on_phase=status.update)
                # Before it is shown: whoever has seen it may stop the rest, and it is kept.
                reports.append(report)
                _print(report)
    finally:
        if output is not None and reports:
            _write(reports, output)
            _draw(reports, chart_beside(output))


def _stopped(done: int, asked: int, output: Path | None) -> str:
    """What is said after Ctrl-C: what was measured is shown, and kept."""
    if not done:
        return f"Stopped before anything was measured. {BEGINS_AGAIN}"
    kept = "" if output is None else f", and {output} has their figures"
    return f"Stopped: {done} of {asked} numbers of faces are measured{kept}. {BEGINS_AGAIN}"


def _numbers(text: str) -> list[int]:
    """How many faces, in ascending order.

    Raises:
        UsageError: they are no numbers, or none that can be.
    """
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= number <= _MOST_FACES for number in numbers):
        raise UsageError(f"--faces should be from 1 to {_MOST_FACES}, several split by commas.")
    return sorted(set(numbers))


def _setup(settings: "Settings", weights: str, *, counted: bool) -> "BenchSetup":
    from evaluation.bench import BenchSetup
    from pipeline.config_reading import read_profile
    from server.engine.plan import choose_devices, plan
    from weights.manifest import DIMENSIONS, PACKAGE_DIR, profile_folder

    if weights not in ("profile", "random") or (counted and weights != "random"):
        raise UsageError("--weights should be profile or random; --device meta takes random.")
    if weights == "profile":
        chosen = plan(settings)
        path, device = chosen.profile.path, chosen.devices[0]
    elif settings.profile in ("auto", "sdxl"):
        path = PACKAGE_DIR / "sdxl"
        device = "meta" if counted else choose_devices(settings.devices)[0]
    else:
        raise UsageError("--weights random is for the profile sdxl: its dimensions are known.")
    return BenchSetup(
        profile=read_profile(path),
        device=device,
        dimensions=DIMENSIONS / "sdxl" if weights == "random" else None,
        tokenizers=profile_folder("tiny"),
        memory_mode=settings.memory_mode,
        compile_mode=settings.compile,
    )


@contextmanager
def _sentences(setup: "BenchSetup") -> Iterator[None]:
    """What the pipeline raises, as a sentence for the person at the command."""
    from pipeline.errors import OutOfMemory, WeightsError
    from server.engine.plan import explain

    try:
        yield
    except WeightsError as error:
        raise OperatorError(explain(error, setup.profile.name)) from error
    except OutOfMemory as error:
        raise OperatorError(f"{error}: fewer faces, or another --memory-mode") from error


def _print(report: "BenchReport") -> None:
    from server.cli.tables import print_table

    workload = report.workload
    print(
        f"Profile {report.profile}, {report.weights} weights, {report.device_name} "
        f"({report.device}), torch {report.torch_version}"
    )
    print(
        f"{workload.faces} faces of {workload.face_px} px in a square picture of "
        f"{workload.size_px} px, "
        f"both passes of {workload.steps} steps, enlarged by {workload.upscale}"
    )
    stages = []
    for stage in report.stages:
        tera = stage.flops / 1e12
        speed = f"{tera / stage.seconds:.3g}" if stage.seconds and stage.flops else ""
        seconds = "" if stage.seconds is None else f"{stage.seconds:.3f}"
        stages.append((stage.name, f"{tera:.3g}" if stage.flops else "", seconds, speed))
    # Where nothing was run, there are no seconds.
    columns = 2 if report.seconds is None else 4
    names = ("stage", "TFLOP", "seconds", "TFLOP/s")
    print_table(names[:columns], [row[:columns] for row in stages])
    networks = [
        (
            network.name,
            str(network.calls),
            f"{network.flops / 1e12:.3g}",
            f"{network.weights_bytes / _GIB:.2f}",
            f"{network.peak_bytes / _GIB:.2f}",
        )
        for network in report.networks
    ]
    print_table(("network", "calls", "TFLOP", "weights GiB", "activations GiB"), networks)
    print(f"Peak memory: {report.peak_bytes / _GIB:.2f} GiB")
    if report.seconds is not None:
        print(f"Whole job: {report.seconds:.2f} s, {report.faces_per_minute:.1f} faces a minute")
    if report.loop_seconds is not None:
        print(
            f"The loop without its UNet: {1000 * report.loop_seconds:.2f} ms a step of 8 rows, at "
            "the detail pass's size"
        )
    if report.eager_seconds is not None:
        print(f"Before it was compiled ({report.compile_mode}): {report.eager_seconds:.2f} s")
    if report.stock_seconds is not None:
        print(
            f"With diffusers' pipeline, one face at a time: {report.stock_seconds:.2f} s, "
            f"{report.speed_up:.2f} times as long"
        )


def _draw(reports: "Sequence[BenchReport]", file: Path) -> None:
    """Seconds a face of each engine, against the number of faces; and what the stages cost."""
    from evaluation.charts import Bars, Lines, draw

    first = reports[0]
    costs = Bars(
        "TFLOP",
        tuple(str(report.workload.faces) for report in reports),
        {
            stage.name: [report.stages[at].flops / 1e12 for report in reports]
            for at, stage in enumerate(first.stages)
            if any(report.stages[at].flops for report in reports)
        },
        across=_ACROSS,
    )
    engines = {
        "face-detailer": [(r.workload.faces, r.seconds) for r in reports],
        "face-detailer, not compiled": [(r.workload.faces, r.eager_seconds) for r in reports],
        "diffusers, one face at a time": [(r.workload.faces, r.stock_seconds) for r in reports],
    }
    lines = {
        name: [(float(count), seconds / count) for count, seconds in points if seconds is not None]
        for name, points in engines.items()
    }
    ran = {name: points for name, points in lines.items() if points}
    speed = [Lines(_ACROSS, "seconds a face", ran)] if ran else []
    title = f"{first.profile}, {first.weights} weights, {first.device_name}"
    draw([*speed, costs], title, file)


def _write(reports: "Sequence[BenchReport]", output: Path) -> None:
    """One object or, of several workloads, a list of them."""
    from dataclasses import asdict

    from weights.files import write_file

    figures = [
        {
            **asdict(report),
            "faces_per_minute": report.faces_per_minute,
            "speed_up": report.speed_up,
        }
        for report in reports
    ]
    text = json.dumps(figures[0] if len(figures) == 1 else figures, indent=2)
    try:
        write_file(output, f"{text}\n".encode())
    except OSError as error:
        raise OperatorError(f"{output}: {error.strerror}") from error
