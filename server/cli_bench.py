"""`face-detailer bench`: what a device does with a profile, as a table and as JSON."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from pipeline.benchmark.job import BenchJob
from pipeline.benchmark.report import BenchReport
from pipeline.benchmark.run import BenchSetup, count, run
from pipeline.config import read_profile
from pipeline.errors import OutOfMemory, WeightsError
from server import logs
from server.cli_tables import new_table, print_table
from server.devices import plan_workers
from server.errors import OperatorError
from server.profiles import check_weights, profile_path, with_remedy
from server.settings import Settings
from weights.manifest import DIMENSIONS, PACKAGE_DIR, profile_folder

GIB = 2**30


def bench(
    job: BenchJob,
    settings: Settings,
    weights: str,
    output: Path | None,
    *,
    stock: bool,
    counted: bool,
) -> None:
    """Measure, or with `counted` only count, print, and write the figures into `output` too, if
    that is given.

    Raises:
        OperatorError: the combination is none, weights are missing, or the job does not fit.
    """
    if job.size_px < job.smallest_px:
        raise OperatorError(
            f"{job.faces} faces of {job.face_px} px need a picture of {job.smallest_px} px."
        )
    logs.configure("warning")
    console = Console(stderr=True)
    setup = _setup(settings, weights, counted=counted)
    try:
        with console.status("") as status:
            if counted:
                report = count(setup, job)
            else:
                report = run(setup, job, stock=stock, on_phase=status.update)
    except WeightsError as error:
        raise OperatorError(with_remedy(error, setup.profile.name)) from error
    except OutOfMemory as error:
        raise OperatorError(f"{error}: fewer faces, or another --memory-mode") from error
    _print(report)
    if output is not None:
        figures = {
            **asdict(report),
            "faces_per_minute": report.faces_per_minute,
            "speed_up": report.speed_up,
        }
        output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _setup(settings: Settings, weights: str, *, counted: bool) -> BenchSetup:
    device = "meta" if counted else plan_workers(settings.devices, settings.profile).devices[0]
    name = settings.profile
    if name == "auto":
        name = "sdxl" if weights == "random" else plan_workers(settings.devices, name).profile
    if weights not in ("profile", "random") or (counted and weights != "random"):
        raise OperatorError("--weights should be profile or random; --device meta takes random.")
    if weights == "random" and name != "sdxl":
        raise OperatorError("--weights random is for the profile sdxl: its dimensions are known.")
    if weights == "profile":
        check_weights(name, settings.data_dir)
    path = PACKAGE_DIR / name if weights == "random" else profile_path(name, settings.data_dir)
    try:
        profile = read_profile(path)
    except WeightsError as error:
        raise OperatorError(str(error)) from error
    return BenchSetup(
        profile=profile,
        device=device,
        dimensions=DIMENSIONS / name if weights == "random" else None,
        tokenizers=profile_folder("tiny"),
        memory_mode=settings.memory_mode,
    )


def _print(report: BenchReport) -> None:
    job = report.job
    print(
        f"Profile {report.profile}, {report.weights} weights, {report.device_name} "
        f"({report.device}), torch {report.torch_version}"
    )
    print(
        f"{job.faces} faces of {job.face_px} px in {job.size_px} × {job.size_px} px, "
        f"both passes of {job.steps} steps, enlarged by {job.upscale}"
    )
    stages = new_table("stage", "seconds", "TFLOP", "TFLOP/s")
    for stage in report.stages:
        tera = stage.flops / 1e12
        speed = f"{tera / stage.seconds:.3g}" if stage.seconds and stage.flops else ""
        seconds = "" if stage.seconds is None else f"{stage.seconds:.3f}"
        stages.add_row(stage.name, seconds, f"{tera:.3g}" if stage.flops else "", speed)
    print_table(stages)
    networks = new_table("network", "calls", "TFLOP", "weights GiB", "activations GiB")
    for network in report.networks:
        networks.add_row(
            network.name,
            str(network.calls),
            f"{network.flops / 1e12:.3g}",
            f"{network.weights_bytes / GIB:.2f}",
            f"{network.peak_bytes / GIB:.2f}",
        )
    print_table(networks)
    print(f"Peak memory: {report.peak_bytes / GIB:.2f} GiB")
    if report.seconds is not None:
        print(f"Whole job: {report.seconds:.2f} s, {report.faces_per_minute:.1f} faces a minute")
    if report.stock_seconds is not None:
        print(
            f"With diffusers' pipeline, one face at a time: {report.stock_seconds:.2f} s, "
            f"{report.speed_up:.2f} times as long"
        )
