"""The benchmark: a workload done by our stages and by diffusers' pipeline, or only counted."""

import gc
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evaluation.bench.counting import Calls, cost_of, recording
from evaluation.bench.loop import LOOP_ROWS, LOOP_STEPS, loop_seconds
from evaluation.bench.random_weights import random_networks, random_stages
from evaluation.bench.report import BenchReport, NetworkCost, StageCost
from evaluation.bench.stock import StockInpainter
from evaluation.bench.workload import Workload, planned_calls
from pipeline.config import Profile
from pipeline.detailer import FaceDetailer
from pipeline.loading import Stages, load_stages
from pipeline.models.sdxl.compiling import CompileMode, compile_networks
from pipeline.models.sdxl.inpainter import SdxlInpainter, make_inpainter
from pipeline.models.sdxl.memory import MemoryMode, size_bytes
from pipeline.models.sdxl.networks import SdxlNetworks, read_networks
from pipeline.stages import Inpainter

STAGE_OF = {
    "detector": "detect",
    "SAM": "segment",
    "text": "inpaint",
    "VAE": "inpaint",
    "UNet": "inpaint",
    "ControlNet": "inpaint",
    "IP-Adapter": "inpaint",
    "upscaler": "upscale",
}


@dataclass(frozen=True, slots=True)
class BenchSetup:
    """`dimensions`, `tokenizers`: see `random_networks`; None: the profile's own weights."""

    profile: Profile
    device: str
    dimensions: Path | None
    tokenizers: Path
    memory_mode: MemoryMode = "auto"
    compile_mode: CompileMode = "off"


def count(setup: BenchSetup, workload: Workload) -> BenchReport:
    """Operations and memory of the workload, without doing it. `setup.device` is "meta".

    What is counted is a GPU's: SDXL's networks in float16.
    """
    profile = setup.profile
    half = replace(profile, inpainter=replace(profile.inpainter, precision="float16"))
    setup = replace(setup, profile=half)
    inpainter = make_inpainter(_read_networks(setup), half.inpainter, "meta", "resident")
    found = _networks(_stages(setup, inpainter), inpainter)
    for name, network in found.items():
        if name.startswith("upscaler"):
            network.half()
    calls = planned_calls(profile, workload, found)
    costs = _costs(calls, found)
    weights = size_bytes(list(found.values()))
    report = _report(setup, workload, costs, {}, weights + max(cost.peak_bytes for cost in costs))
    return replace(report, device_name="counted, not run")


def run(
    setup: BenchSetup, workload: Workload, *, stock: bool, on_phase: Callable[[str], None]
) -> BenchReport:
    """Do the workload, first with diffusers' pipeline if `stock`, then with ours.

    Raises:
        WeightsError: the profile's own weights cannot be loaded.
    """
    stock_seconds = None
    if stock:
        on_phase("diffusers' pipeline")
        stock_seconds = _stock_seconds(setup, workload)
        _forget(setup.device)
    on_phase("loading")
    config = setup.profile.inpainter
    inpainter = make_inpainter(
        _read_networks(setup), config, setup.device, setup.memory_mode, setup.compile_mode
    )
    stages = _stages(setup, inpainter)
    found = _networks(stages, inpainter)
    detailer = stages.assemble(setup.profile)
    on_phase("warming up")
    _warm_up(detailer, workload, setup.device)
    on_phase("running")
    with recording(found) as calls:
        seconds = _timed(detailer, workload)
    peak = _peak_bytes(setup.device)
    on_phase("counting")
    costs = _costs(calls, found)
    eager_seconds = None
    if setup.compile_mode != "off":
        # Only now: what is compiled calls no hooks, by which the calls are recorded.
        on_phase("compiling")
        eager_seconds = sum(seconds.values())
        _compile(setup, inpainter)
        _warm_up(detailer, workload, setup.device)
        on_phase("running what was compiled")
        seconds = _timed(detailer, workload)
        peak = _peak_bytes(setup.device)
    report = _report(setup, workload, costs, seconds, peak)
    side = setup.profile.detail.work_px[-1] // 8
    return replace(
        report,
        seconds=sum(seconds.values()),
        stock_seconds=stock_seconds,
        eager_seconds=eager_seconds,
        loop_seconds=loop_seconds(LOOP_ROWS, side, LOOP_STEPS, setup.device),
    )


def _compile(setup: BenchSetup, inpainter: SdxlInpainter) -> None:
    networks = inpainter.networks
    unet: Any = networks["UNet"]
    control: Any = networks.get("ControlNet")
    compile_networks(unet, networks["VAE decoder"], setup.compile_mode, control=control)
    profile = setup.profile
    inpainter.compile_for(profile.outline.work_px + profile.detail.work_px)


def _read_networks(setup: BenchSetup) -> SdxlNetworks:
    profile, config = setup.profile, setup.profile.inpainter
    if setup.dimensions is None:
        return read_networks(profile.folder, config, setup.device)
    return random_networks(profile, setup.dimensions, setup.tokenizers, setup.device)


def _stages(setup: BenchSetup, inpainter: Inpainter) -> Stages:
    if setup.dimensions is None:
        return load_stages(setup.profile, setup.device, lambda: inpainter)
    return random_stages(setup.profile, inpainter, setup.dimensions, setup.device)


def _stock_seconds(setup: BenchSetup, workload: Workload) -> float:
    networks = _read_networks(setup)
    inpainter = StockInpainter(networks, setup.profile.inpainter, setup.device)
    detailer = _stages(setup, inpainter).assemble(setup.profile)
    _warm_up(detailer, workload, setup.device)
    return sum(_timed(detailer, workload).values())


def _timed(detailer: FaceDetailer, workload: Workload) -> dict[str, float]:
    """Seconds by stage. Every stage ends with its result on the host, so nothing is under way."""
    request = workload.request()
    started = time.perf_counter()
    detailer.find_faces(request.image, request.selection)
    detect_s = time.perf_counter() - started
    return {"detect": detect_s, **detailer.detail_faces(request, workload.boxes()).seconds}


def _warm_up(detailer: FaceDetailer, workload: Workload, device: str) -> None:
    """Once with few steps, so that kernels are chosen and memory is at hand; not on a CPU."""
    if torch.device(device).type != "cpu":
        _timed(detailer, replace(workload, steps=2))
        _forget(device)


def _forget(device: str) -> None:
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak_bytes(device: str) -> int:
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _networks(stages: Stages, inpainter: SdxlInpainter) -> dict[str, torch.nn.Module]:
    return {
        **stages.detector.networks,
        **stages.segmenter.networks,
        **inpainter.networks,
        **stages.upscaler.networks,
    }


def _costs(calls: list[Calls], networks: Mapping[str, torch.nn.Module]) -> list[NetworkCost]:
    costs = []
    for name, network in networks.items():
        own = [(call.count, cost_of(network, call)) for call in calls if call.network == name]
        if own:
            costs.append(
                NetworkCost(
                    name,
                    calls=sum(times for times, _ in own),
                    flops=sum(times * cost.flops for times, cost in own),
                    weights_bytes=size_bytes([network]),
                    peak_bytes=max(cost.peak_bytes for _, cost in own),
                )
            )
    return costs


def _report(
    setup: BenchSetup,
    workload: Workload,
    costs: list[NetworkCost],
    seconds: Mapping[str, float],
    peak_bytes: int,
) -> BenchReport:
    names = [*seconds] or ["detect", "segment", "inpaint", "upscale"]
    stages = [
        StageCost(
            name,
            seconds.get(name),
            sum(cost.flops for cost in costs if _stage_of(cost.name) == name),
        )
        for name in names
    ]
    cuda = torch.device(setup.device).type == "cuda"
    return BenchReport(
        profile=setup.profile.name,
        compile_mode=setup.compile_mode,
        weights="profile" if setup.dimensions is None else "random",
        device=setup.device,
        device_name=torch.cuda.get_device_name(setup.device) if cuda else platform.machine(),
        torch_version=torch.__version__,
        workload=workload,
        stages=tuple(stages),
        networks=tuple(costs),
        peak_bytes=peak_bytes,
    )


def _stage_of(network: str) -> str:
    return next(stage for start, stage in STAGE_OF.items() if network.startswith(start))
