"""SDXL at full size, random weights: on a GPU where there is one; on a CPU by `-m full_size`."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline

from evaluation.bench.random_weights import random_networks
from evaluation.bench.run import BenchSetup, run
from evaluation.bench.workload import Workload
from pipeline.config_inpainter import InpainterConfig, Precision
from pipeline.config_reading import read_profile
from pipeline.models.sdxl.inpainter import SdxlInpainter, make_inpainter
from pipeline.models.sdxl.memory import MemoryMode
from pipeline.models.sdxl.networks import SdxlNetworks
from pipeline.models.sdxl.schedule import read_noise_model
from pipeline.models.sdxl.text import TextEncoders
from pipeline.types import Image, InpaintJob, SoftMask
from weights.manifest import DIMENSIONS, PACKAGE_DIR, profile_folder

SIDE = 256
TRAILING = {"timestep_spacing": "trailing"}
TINY = profile_folder("tiny")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = [
    # Half of the memory of float32, in which it would be exact: 7 GiB.
    pytest.param("cpu", "bfloat16", marks=[pytest.mark.full_size, pytest.mark.timeout(1800)]),
    pytest.param("cuda", "float16", marks=needs_gpu),
    pytest.param("cuda", "bfloat16", marks=needs_gpu),
]


def config(precision: Precision) -> InpainterConfig:
    return InpainterConfig(".", "euler", "diffusers", (1, 2, 4), precision=precision)


def networks(device: str, precision: Precision) -> SdxlNetworks:
    torch.manual_seed(0)
    profile = read_profile(PACKAGE_DIR / "sdxl")
    profile = replace(profile, inpainter=config(precision))
    made = random_networks(profile, DIMENSIONS / "sdxl", TINY, device)
    # One step from where the noise is; the model's own spacing would begin at its end.
    return replace(made, scheduler_config={**made.scheduler_config, **TRAILING})


def job(side: int = SIDE, steps: int = 1) -> InpaintJob:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.float32)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 1
    return InpaintJob(Image(pixels), SoftMask(mask), "a face", "blur", 7, steps, 6.0, 1.0)


@pytest.mark.parametrize(("device", "precision"), DEVICES)
def test_one_step_is_that_of_diffusers_pipeline(device, precision):
    """Ours are kept in 32 bits; here they have diffusers' 16, so that nothing else differs."""
    found = networks(device, precision)
    for network in found.modules:
        network.eval().requires_grad_(False)
    # As `make_inpainter` lays it out: otherwise both sides round differently.
    found.unet.to(memory_format=torch.channels_last)
    text = TextEncoders(found.tokenizers, found.encoders)
    ours = SdxlInpainter(
        found.unet, found.vae, text, read_noise_model(found.scheduler_config), config(precision)
    )
    order = job()
    with torch.inference_mode():
        (canvas,) = ours._canvases([order])
        canvas = replace(
            canvas,
            **{
                name: getattr(canvas, name).to(found.unet.device, found.unet.dtype)
                for name in ("latents", "mask", "masked_latents", "noise")
            },
        )
        trajectory = ours._start(order, canvas)
    ours._loop.run([trajectory], lambda _index: None, lambda: False)
    pipeline = StableDiffusionXLInpaintPipeline(
        found.vae,
        *found.encoders,
        *found.tokenizers,
        found.unet,
        EulerDiscreteScheduler.from_config(found.scheduler_config),
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        image=canvas.latents,
        masked_image_latents=canvas.masked_latents,
        mask_image=torch.from_numpy(order.mask.pixels)[None, None],
        height=SIDE,
        width=SIDE,
        num_inference_steps=1,
        strength=1.0,
        guidance_scale=order.guidance_scale,
        latents=canvas.noise,
        output_type="latent",
    ).images.float()
    assert torch.isfinite(theirs).all()
    assert theirs.std() > 0.1
    # The last bits of bfloat16's eight, of the largest value.
    assert (trajectory.latents.to(theirs) - theirs).abs().max() <= 0.01 * theirs.abs().max()


def answer_and_peak(mode: MemoryMode) -> tuple[Image | None, int]:
    """An inpainter's first answer, and the most bytes that it had on the card at a time."""
    gc.collect()
    before = torch.cuda.memory_allocated()
    # Made on the card, which fills random weights in no time.
    inpainter = make_inpainter(networks("cuda", "float16"), config("float16"), "cuda", mode)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    (answer,) = inpainter.inpaint([job(512)], lambda _index: None, lambda: False)
    return answer, torch.cuda.max_memory_allocated() - before


@needs_gpu
@pytest.mark.parametrize("mode", ["offload", "low"])
def test_networks_that_take_turns_need_less_of_the_card(mode: MemoryMode):
    answers, peaks = zip(*map(answer_and_peak, ("resident", mode)), strict=True)
    assert peaks[1] < 0.85 * peaks[0]
    assert None not in answers
    apart = np.abs(answers[0].pixels.astype(int) - answers[1].pixels).max()
    assert apart <= (0 if mode == "offload" else 64)


@needs_gpu
def test_bench_on_the_card():
    profile = read_profile(PACKAGE_DIR / "sdxl")
    setup = BenchSetup(profile, "cuda", DIMENSIONS / "sdxl", TINY)
    report = run(setup, Workload(faces=1, steps=4, size_px=768), stock=True, on_phase=print)
    assert report.peak_bytes > 6 * 2**30
    assert report.speed_up > 0
    assert all(stage.seconds > 0 for stage in report.stages)
