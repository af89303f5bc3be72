"""The inpainter against diffusers' own pipeline, and what holds whatever its weights are."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLInpaintPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from their_samplers import THEIRS

from pipeline.config_inpainter import InpainterConfig
from pipeline.errors import Stopped, WeightsError
from pipeline.models.sdxl.batch import TrajectoryBatch
from pipeline.models.sdxl.inpainter import SdxlInpainter, load_inpainter
from pipeline.models.sdxl.schedule import make_schedule
from pipeline.models.sdxl.text import Conditioning
from pipeline.models.sdxl.trajectory import Canvas, DenoiseTrajectory
from pipeline.types import Image, InpaintJob, SoftMask

EXAMPLES = Path(__file__).parents[2] / "examples"
ASTRONAUT = cv2.cvtColor(cv2.imread(str(EXAMPLES / "astronaut.png")), cv2.COLOR_BGR2RGB)
SIDE = 128
PROMPT, NEGATIVE = "a woman, detailed face", "bad quality, painting, blur"
CONFIG = InpainterConfig(".", "euler", "all", (1, 2, 4, 8))


def hard_mask(side: int = SIDE) -> SoftMask:
    mask = np.zeros((side, side), np.float32)
    mask[side // 4 : side * 3 // 4 - 5, side // 4 + 3 : side * 3 // 4] = 1
    return SoftMask(mask)


def soft_mask(side: int = SIDE) -> SoftMask:
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    return SoftMask(np.clip((0.35 - np.hypot(x, y)) * 6, 0, 1).astype(np.float32))


def crop(side: int = SIDE, left: int = 180) -> Image:
    return Image(np.ascontiguousarray(ASTRONAUT[60 : 60 + side, left : left + side]))


def job(**changes) -> InpaintJob:
    values = {
        "image": crop(),
        "mask": soft_mask(),
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "seed": 7,
        "steps": 4,
        "guidance_scale": 6.0,
        "strength": 0.5,
    }
    return InpaintJob(**{**values, **changes})


def run(inpainter: SdxlInpainter, *jobs: InpaintJob) -> list[Image | None]:
    return inpainter.inpaint(jobs, lambda _index: None, lambda: False)


def levels_apart(a: Image | None, b: Image | None) -> int:
    assert a is not None
    assert b is not None
    return int(np.abs(a.pixels.astype(int) - b.pixels).max())


@pytest.fixture(scope="module")
def tiny(detailer) -> SdxlInpainter:
    return detailer._inpainter


@pytest.fixture(scope="module")
def four_channels(tiny) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config({**tiny._unet.config, "in_channels": 4})
    # As `load_inpainter` lays it out: otherwise both sides round differently.
    return unet.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [9, 4])
@pytest.mark.parametrize("name", list(THEIRS))
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_a_hard_mask_gives_what_diffusers_pipeline_gives(
    tiny, four_channels, scheduler_config, noise_model, channels, name, strength
):
    unet = tiny._unet if channels == 9 else four_channels
    config = InpainterConfig(".", name, "diffusers", (1, 2, 4))
    ours = SdxlInpainter(unet, tiny._vae, tiny._text, noise_model, config)
    order = job(mask=hard_mask(), steps=6, strength=strength)
    with torch.inference_mode():
        (canvas,) = ours._canvases([order])
        trajectory = ours._start(order, canvas)
    ours._loop.run([trajectory], lambda _index: None, lambda: False)

    scheduler_class, options = THEIRS[name]
    pipeline = StableDiffusionXLInpaintPipeline(
        tiny._vae,
        *tiny._text._encoders,
        *tiny._text._tokenizers,
        unet,
        scheduler_class.from_config(scheduler_config, **options),
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        image=canvas.latents,
        masked_image_latents=canvas.masked_latents,
        mask_image=torch.from_numpy(order.mask.pixels)[None, None],
        height=SIDE,
        width=SIDE,
        num_inference_steps=order.steps,
        strength=strength,
        guidance_scale=order.guidance_scale,
        generator=torch.Generator().manual_seed(order.seed),
        output_type="latent",
    ).images
    assert theirs.abs().max() > 0.1
    assert (trajectory.latents - theirs).abs().max() <= 1e-4


def test_what_the_vae_loses_is_given_back(tiny, four_channels, noise_model):
    config = replace(CONFIG, residual=True)
    # A UNet that does not see the mask is held to it, so that an empty mask keeps every latent.
    ours = SdxlInpainter(four_channels, tiny._vae, tiny._text, noise_model, config)
    nothing = job(mask=SoftMask(np.zeros((SIDE, SIDE), np.float32)))
    (kept,) = run(ours, nothing)
    assert levels_apart(kept, nothing.image) <= 1
    first, second, other = run(ours, job(), job(seed=8), job(image=crop(left=190)))
    assert levels_apart(first, job().image) > 3
    assert levels_apart(first, run(ours, job())[0]) <= 1
    assert levels_apart(first, second) > 1
    assert levels_apart(other, run(ours, job(image=crop(left=190)))[0]) <= 1


def test_the_hidden_picture_is_the_one_diffusers_hides(tiny):
    order = job(mask=hard_mask())
    with torch.inference_mode():
        (canvas,) = tiny._canvases([order])
        picture = torch.from_numpy(order.image.pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
        hidden = picture * (torch.from_numpy(order.mask.pixels) < 0.5)
        mean = tiny._vae.encode(hidden).latent_dist.mean * tiny._vae.config.scaling_factor
    assert torch.allclose(canvas.masked_latents, mean, atol=1e-5)
    assert torch.equal(canvas.mask[0, 0], torch.from_numpy(order.mask.pixels)[::4, ::4])


def test_latents_outside_a_soft_mask_stay_the_pictures(tiny, four_channels, noise_model):
    plain = SdxlInpainter(four_channels, tiny._vae, tiny._text, noise_model, CONFIG)
    for inpainter in (tiny, plain):
        with torch.inference_mode():
            (canvas,) = inpainter._canvases([job()])
            trajectory = inpainter._start(job(), canvas)
        inpainter._loop.run([trajectory], lambda _index: None, lambda: False)
        outside = (canvas.mask == 0).expand_as(trajectory.latents)
        assert torch.equal(trajectory.latents[outside], canvas.latents[outside])
        assert (trajectory.latents - canvas.latents)[~outside].abs().max() > 1e-3


def painted_steps(noise_model, masks: list[float], steps: int) -> list[list[bool]]:
    """Per mask value: in which steps it is the model's; otherwise it is the noised picture's."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 4, 1, len(masks))
    picture, noise = torch.randn(2, *shape, generator=generator)
    text = Conditioning(torch.zeros(1, 77, 32), torch.zeros(1, 16))
    schedule = make_schedule(noise_model, "euler", steps, 0.5, "all")
    canvas = Canvas(picture, torch.tensor(masks).expand(1, 1, *shape[2:]), None, noise)
    trajectory = DenoiseTrajectory(canvas, schedule, text, text, 6.0, told_px=32)
    batch = TrajectoryBatch([trajectory])
    painted = []
    for step in range(steps):
        batch.advance(torch.randn(2, *shape[1:], generator=generator))
        untouched = picture + noise * float(schedule.sigmas[step + 1])
        same = torch.isclose(trajectory.latents, untouched, atol=1e-5).all(dim=(0, 1, 2))
        painted.append((~same).tolist())
    return [list(steps) for steps in zip(*painted, strict=True)]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 20])
def test_a_soft_mask_is_painted_in_its_share_of_the_steps(noise_model, steps):
    """The last ones: what joins late stays near the picture. Half a step is the most it is off."""
    masks = [i / 100 for i in range(101)]
    for mask, painted in zip(masks, painted_steps(noise_model, masks, steps), strict=True):
        assert abs(sum(painted) - mask * steps) <= 0.5 + 1e-6
        assert painted == sorted(painted)
    empty, whole = painted_steps(noise_model, [0.0, 1.0], steps)
    assert not any(empty)
    assert all(whole)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 20])
def test_a_mask_and_its_complement_are_painted_in_all_steps_together(noise_model, steps):
    masks = [0.0131 + i * 0.0697 for i in range(15)]  # none half-way between two shares
    one = painted_steps(noise_model, masks, steps)
    other = painted_steps(noise_model, [1 - mask for mask in masks], steps)
    for ours, theirs in zip(one, other, strict=True):
        assert sum(ours) + sum(theirs) == steps


def test_one_step_paints_half_of_a_ramp(noise_model):
    """One pixel in a hundred would be painted, were the mask hard there."""
    painted = painted_steps(noise_model, [(i + 0.5) / 100 for i in range(100)], 1)
    assert sum(map(sum, painted)) == 50


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(tiny):
    (first,), (again,), (other,) = (run(tiny, job(seed=seed)) for seed in (7, 7, 8))
    assert levels_apart(first, again) == 0
    assert levels_apart(first, other) > 0


def test_a_profile_takes_its_share_of_the_guidance_beyond_1(tiny, noise_model):
    half = SdxlInpainter(
        tiny._unet, tiny._vae, tiny._text, noise_model, replace(CONFIG, guidance=0.5)
    )
    whole = SdxlInpainter(tiny._unet, tiny._vae, tiny._text, noise_model, CONFIG)
    (wanted,) = run(whole, job(guidance_scale=4.0))
    assert levels_apart(run(half, job(guidance_scale=7.0))[0], wanted) == 0
    assert levels_apart(run(whole, job(guidance_scale=9.0))[0], wanted) > 0


def test_a_face_does_not_depend_on_the_rest_of_its_batch(tiny):
    """At most one level: fp32 sums of another batch size round differently in the last bits."""
    mine = job()
    others = [
        job(image=crop(left=90), prompt="an old man", steps=3, guidance_scale=9.0),
        job(image=crop(192), mask=soft_mask(192), strength=1.0, seed=3),
        job(image=crop(left=300), mask=hard_mask(), guidance_scale=1.0),
    ]
    (alone,) = run(tiny, mine)
    together = run(tiny, *others, mine)
    assert levels_apart(alone, together[-1]) <= 1
    assert levels_apart(run(tiny, others[0])[0], together[0]) <= 1
    assert [picture.width_px for picture in together if picture] == [128, 192, 128, 128]


def test_every_job_reports_every_step(tiny):
    steps: list[None] = []
    tiny.inpaint([job(steps=3), job(steps=5)], steps.append, lambda: False)
    assert len(steps) == 8


def test_what_was_done_is_counted(tiny):
    before = tiny.usage()
    # With guidance 1 a job takes one row, and its mirror image another.
    run(tiny, *(job(steps=3, guidance_scale=1.0, seed=seed) for seed in range(3)))
    after = tiny.usage()
    calls, rows = after.calls - before.calls, after.rows - before.rows
    most = tiny._config.batch_sizes[-1]
    assert (calls, rows, after.places - before.places) == (3, 18, 3 * most)
    assert after.memory is None


def test_stops_within_a_step(tiny):
    steps: list[None] = []
    with pytest.raises(Stopped):
        tiny.inpaint([job(steps=9)], steps.append, lambda: len(steps) >= 2)
    assert len(steps) == 2


def test_stops_while_pictures_are_decoded(tiny):
    """Of many faces that takes longer than their steps."""
    jobs = [job(steps=1, seed=seed) for seed in range(3)]
    steps: list[None] = []
    with pytest.raises(Stopped):
        tiny.inpaint(jobs, steps.append, lambda: len(steps) == len(jobs))


@pytest.fixture
def copied(tiny_folder, tmp_path) -> Path:
    names = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2")
    for name in (*names, "tokenizer", "tokenizer_2"):
        shutil.copytree(tiny_folder / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("part", "parameter"),
    [("unet", "conv_out.bias"), ("vae", "decoder.conv_out.bias"), ("vae", "encoder.conv_in.bias")],
)
def test_an_answer_that_is_not_finite_is_none(copied, part, parameter):
    file = copied / part / "diffusion_pytorch_model.safetensors"
    values = load_file(file)
    values[parameter][0] = float("nan")
    save_file(values, file, metadata={"format": "pt"})
    assert run(load_inpainter(copied, CONFIG, "cpu"), job(steps=2)) == [None]


@pytest.mark.parametrize(
    "broken",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "tokenizer_2/merges.txt",
        "scheduler/scheduler_config.json",
    ],
)
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_broken_folder_is_refused(copied, broken, how):
    file = copied / broken
    content = file.read_bytes()
    file.unlink()
    if how == "cut":
        file.write_bytes(content[: len(content) // 3])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_inpainter(copied, CONFIG, "cpu")


def test_a_prompt_of_any_length_goes_through(tiny):
    long = replace(job(steps=1), prompt="freckles, " * 200, negative_prompt="")
    assert run(tiny, long)[0] is not None


@pytest.mark.parametrize(("least", "told"), [(0, SIDE), (1024, 1024), (64, SIDE)])
def test_the_unet_is_told_no_smaller_picture_than_the_profile_says(tiny, noise_model, least, told):
    seen = []
    config = replace(CONFIG, told_px=least)
    ours = SdxlInpainter(tiny._unet, tiny._vae, tiny._text, noise_model, config)
    hook = tiny._unet.register_forward_pre_hook(
        lambda _, _given, options: seen.append(options["added_cond_kwargs"]["time_ids"]),
        with_kwargs=True,
    )
    run(ours, job(steps=1))
    hook.remove()
    (time_ids,) = seen
    assert time_ids.tolist() == [[told, told, 0, 0, told, told]] * 2
