"""The benchmark: what it counts, and what it times, with networks of small sizes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from spandrel.architectures.ESRGAN import ESRGAN

from evaluation.bench.counting import Calls, LiveMemory, as_meta, cost_of, recording
from evaluation.bench.random_weights import random_networks
from evaluation.bench.run import STAGE_OF, BenchSetup, _stage_of, count, run
from evaluation.bench.workload import Workload
from pipeline.config_reading import read_profile
from pipeline.models.sdxl.inpainter import load_inpainter
from weights.manifest import DIMENSIONS, PACKAGE_DIR
from weights.sources import downloads

WORKLOAD = Workload(faces=3, face_px=40, size_px=160, steps=2, upscale=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_folder) -> BenchSetup:
    """The tiny profile's sizes, with random weights."""
    dimensions = tmp_path_factory.mktemp("dimensions")
    for name in ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler"):
        shutil.copytree(tiny_folder / name, dimensions / name)
    sizes = {"2": {"in_nc": 12, "num_filters": 8, "num_blocks": 1, "scale": 4}}
    (dimensions / "upscaler.json").write_text(json.dumps(sizes))
    profile = read_profile(tiny_folder)
    small = replace(profile.detail, work_px=(64,))
    every_step = replace(profile.inpainter, steps=1.0)
    profile = replace(profile, outline=small, detail=small, inpainter=every_step)
    return BenchSetup(profile, "cpu", dimensions, tiny_folder)


def test_every_network_belongs_to_a_stage(tiny_folder):
    inpainter = load_inpainter(tiny_folder, read_profile(tiny_folder).inpainter, "cpu")
    names = [*inpainter.networks, "ControlNet", "detector", "SAM", "upscaler"]
    assert {_stage_of(name) for name in names} == set(STAGE_OF.values())


def test_operations_and_memory_are_those_of_the_call():
    network = torch.nn.Sequential(torch.nn.Linear(100, 50, bias=False), torch.nn.ReLU())
    cost = cost_of(network, Calls("network", (torch.empty(10, 100, device="meta"),)))
    assert cost.flops == 2 * 10 * 100 * 50
    # Input, product, and what ReLU makes of it; the weights are apart.
    assert cost.peak_bytes == 4 * (10 * 100 + 10 * 50 + 10 * 50)
    assert network[0].weight.device.type == "cpu"


def test_memory_that_is_freed_is_taken_off():
    with LiveMemory() as live:
        for _ in range(3):
            one = torch.empty(1000, device="meta")
            view = one.view(10, 100)
            two = one + 1
            del one, two, view
    assert live.peak_bytes == 8000


def test_what_a_network_was_given_is_noted():
    network = torch.nn.Linear(3, 2)
    with recording({"linear": network}) as calls:
        for rows in (4, 4, 5):
            network(torch.zeros(rows, 3))
    network(torch.zeros(4, 3))
    assert [(call.arguments[0].shape[0], call.count) for call in calls] == [(4, 2), (5, 1)]
    assert as_meta({"a": [torch.zeros(2)]})["a"][0].device.type == "meta"


def test_sdxls_dimensions_are_those_of_the_files_that_are_pulled(tiny_folder):
    """To the byte, but for the files' headers."""
    profile = read_profile(PACKAGE_DIR / "sdxl")
    networks = random_networks(profile, DIMENSIONS / "sdxl", tiny_folder, "meta")
    parameters = [
        sum(parameter.numel() for parameter in network.parameters())
        for network in (networks.unet, *networks.encoders, networks.vae)
    ]
    sizes = {file.path: file.bytes for file in downloads("sdxl")}
    roles = ("unet", "text_encoder", "text_encoder_2", "vae")
    stored = [
        sizes[next(path for path in sizes if path.startswith(f"{role}/") and sizes[path])]
        for role in roles
    ]
    for number, size, width in zip(parameters, stored, (2, 2, 2, 4), strict=True):
        assert 0 < size - number * width < 300_000
    for factor, dimensions in json.loads((DIMENSIONS / "sdxl/upscaler.json").read_text()).items():
        number = sum(parameter.numel() for parameter in ESRGAN(**dimensions).parameters())
        assert 0 < sizes[f"upscaler/x{factor}plus.safetensors"] - number * 4 < 300_000


@pytest.mark.slow
def test_a_job_on_the_cpu_against_diffusers_pipeline(small):
    phases = []
    report = run(small, WORKLOAD, stock=True, on_phase=phases.append)
    assert report.stages[0].name == "detect"
    assert {"segment", "inpaint", "upscale"} <= {stage.name for stage in report.stages}
    assert report.seconds == pytest.approx(sum(stage.seconds for stage in report.stages))
    assert report.stock_seconds > 0
    # Two passes of two steps each had a UNet besides.
    assert 0 < report.loop_seconds < report.seconds
    assert report.faces_per_minute == pytest.approx(60 * 3 / report.seconds)
    unet = next(network for network in report.networks if network.name == "UNet")
    # Two passes of two steps; three faces are six rows, padded to eight.
    assert unet.calls == 4
    inpaint = next(stage for stage in report.stages if stage.name == "inpaint")
    assert inpaint.flops > unet.flops > 0


@pytest.mark.slow
def test_on_meta_the_same_operations_are_counted(small):
    """All but the detector's, whose second look depends on what it finds."""
    done = run(small, WORKLOAD, stock=False, on_phase=lambda _: None)
    counted = count(replace(small, device="meta"), WORKLOAD)
    assert counted.seconds is None
    assert counted.peak_bytes > sum(network.weights_bytes for network in counted.networks)
    flops = [
        {network.name: network.flops for network in report.networks} for report in (done, counted)
    ]
    for name in flops[0].keys() - {"detector"}:
        assert flops[1][name] == pytest.approx(flops[0][name], rel=0.01), name
