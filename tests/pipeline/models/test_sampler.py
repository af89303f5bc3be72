"""Many trajectories stepped at once, each as diffusers' scheduler steps it alone."""

import json
from dataclasses import dataclass

import pytest
import torch
from their_samplers import THEIRS

from pipeline.models.sdxl.batch import UNetRows
from pipeline.models.sdxl.loop import DenoiseLoop
from pipeline.models.sdxl.schedule import make_schedule, read_noise_model, trailing_timesteps
from pipeline.models.sdxl.text import Conditioning
from pipeline.models.sdxl.trajectory import Canvas, DenoiseTrajectory
from pipeline.steps import plan_steps
from weights.manifest import DIMENSIONS

SDXL = json.loads((DIMENSIONS / "sdxl" / "scheduler" / "scheduler_config.json").read_text())
TOLERANCE = 1e-4
TEXT = Conditioning(torch.zeros(1, 77, 4), torch.zeros(1, 4))
SHAPE = (1, 4, 3, 3)


@dataclass(frozen=True)
class Case:
    """How long, and from how much noise; the seed is that of picture and noise."""

    steps: int
    strength: float
    seed: int

    def drawn(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)


PAIRS = [(n, s) for n in (1, 2, 3, 8, 15, 20, 31) for s in (0.06, 0.24, 0.4, 0.77, 1.0)]
CASES = [Case(steps, strength, seed) for seed, (steps, strength) in enumerate(PAIRS)]


def unet(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Of the order of 1, and of all that a UNet is told."""
    return (0.8 * sample + timestep.float().view(-1, 1, 1, 1) / 500).sin() + 0.1 * sample.flip(-1)


def ours(config: dict, name: str, rule: str, spacing: str) -> list[torch.Tensor]:
    """All cases in one loop: rows of every length and position share its calls."""
    noise_model = read_noise_model(config)
    loop = DenoiseLoop(lambda rows: unet(rows.sample, rows.timestep), len(CASES))
    trajectories = []
    for case in CASES:
        picture, noise = case.drawn()
        canvas = Canvas(picture, torch.ones(1, 1, *SHAPE[-2:]), None, noise, soft=False)
        schedule = make_schedule(noise_model, name, case.steps, case.strength, rule, spacing)
        pure = rule == "diffusers" and case.strength == 1
        trajectories.append(
            DenoiseTrajectory(canvas, schedule, TEXT, TEXT, 1.0, told_px=24, pure_noise=pure)
        )
    loop.run(trajectories, lambda _index: None, lambda: False)
    return [trajectory.latents for trajectory in trajectories]


def theirs(config: dict, name: str, rule: str, spacing: str, case: Case) -> torch.Tensor:
    if rule == "all":
        # DDIM on a fine schedule is Euler's method.
        name, config = name.replace("ddim", "euler"), {**config, "timestep_spacing": spacing}
    kind, options = THEIRS[name]
    scheduler = kind.from_config(config, **options)
    total, executed = plan_steps(case.steps, case.strength, rule)
    scheduler.set_timesteps(total)
    if len(scheduler.timesteps) != total:
        # Its trailing timesteps have one too many here and there, at −1.
        scheduler.set_timesteps(timesteps=trailing_timesteps(1000, total))
    start = total - executed
    timesteps = scheduler.timesteps[start:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    picture, noise = case.drawn()
    if rule == "diffusers" and case.strength == 1:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(picture, noise, timesteps[:1])
    for timestep in timesteps:
        answer = unet(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(answer, timestep, latents).prev_sample
    return latents


def assert_same(
    config: dict, name: str, rule: str, spacing: str = "linspace", tolerance: float = TOLERANCE
) -> None:
    for case, found in zip(CASES, ours(config, name, rule, spacing), strict=True):
        apart = (found - theirs(config, name, rule, spacing, case)).abs().max()
        assert apart <= tolerance, (case, float(apart))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", THEIRS)
def test_a_whole_fine_schedule(name, prediction):
    assert_same({**SDXL, "prediction_type": prediction}, name, "all")


@pytest.mark.parametrize("name", ["euler", "ddim"])
def test_a_whole_fine_schedule_without_a_wasted_step(name):
    assert_same(SDXL, name, "all", "trailing")


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("name", THEIRS)
def test_diffusers_own_rule(name, spacing):
    assert_same({**SDXL, "timestep_spacing": spacing}, name, "diffusers")


def test_ddim_that_does_not_end_at_no_noise():
    config = {**SDXL, "set_alpha_to_one": False, "timestep_spacing": "linspace"}
    assert_same(config, "ddim", "diffusers")


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m_karras"])
def test_a_model_whose_last_timestep_is_noise_alone(name):
    config = {**SDXL, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    config["timestep_spacing"] = "trailing"
    # Theirs adds and takes away numbers of the order of σ = 4096, in float32.
    assert_same(config, name, "all", "trailing", tolerance=4096 * 2**-23)


@pytest.mark.parametrize("name", THEIRS)
def test_a_unet_that_knows_the_noise_leads_back_to_the_picture(name):
    """Also where 1000 is no multiple of the steps."""
    picture, noise = CASES[0].drawn()
    config = {**SDXL, "prediction_type": "epsilon"}
    loop = DenoiseLoop(lambda rows: noise.expand(rows.sample.shape), 8)
    canvas = Canvas(picture, torch.ones(1, 1, *SHAPE[-2:]), None, noise)
    for steps, strength in ((20, 0.4), (23, 0.031), (15, 0.27), (20, 0.9)):
        schedule = make_schedule(read_noise_model(config), name, steps, strength, "all")
        trajectory = DenoiseTrajectory(canvas, schedule, TEXT, TEXT, 1.0, told_px=24)
        loop.run([trajectory], lambda _index: None, lambda: False)
        assert (trajectory.latents - picture).abs().max() < TOLERANCE


def test_a_unet_call_sees_every_trajectory_at_its_own_step():
    noise_model = read_noise_model(SDXL)
    seen: list[list[float]] = []

    def predict(rows: UNetRows) -> torch.Tensor:
        seen.append(rows.timestep.tolist())
        return torch.zeros_like(rows.sample)

    def start(steps: int, guidance: float) -> DenoiseTrajectory:
        picture, noise = CASES[0].drawn()
        canvas = Canvas(picture, torch.ones(1, 1, *SHAPE[-2:]), None, noise)
        schedule = make_schedule(noise_model, "euler", steps, 1.0, "all")
        return DenoiseTrajectory(canvas, schedule, TEXT, TEXT, guidance, told_px=24)

    DenoiseLoop(predict, 8).run([start(2, 1.0), start(3, 6.0)], lambda _index: None, lambda: False)
    # The guided one first, once more at the end.
    assert seen == [[999, 999, 999], [499.5, 0, 499.5], [0, 0]]
