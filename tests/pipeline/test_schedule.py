"""How many steps a job walks, and from how much noise."""

from fractions import Fraction

import pytest
import torch
from diffusers import StableDiffusionXLInpaintPipeline

from pipeline.models.schedule import make_schedule
from pipeline.steps import MAX_TOTAL, plan_steps

NAMES = ("euler", "dpmpp_2m_karras", "ddim")
# The grid of the wire contract: denoise in hundredths.
STEPS = range(15, 76)
HUNDREDTHS = range(1, 101)


def test_all_steps_are_executed_as_the_tail_of_the_finer_schedule():
    for steps in STEPS:
        for hundredths in HUNDREDTHS:
            total = Fraction(steps * 100, hundredths).__floor__()
            assert plan_steps(steps, hundredths / 100, "all") == (total, steps)


def test_a_share_of_denoise_is_planned_without_rounding_errors():
    for steps in STEPS:
        for hundredths in HUNDREDTHS:
            for share in (0.6, 0.85):
                strength = Fraction(str(share)) * Fraction(hundredths, 100)
                planned = plan_steps(steps, share * (hundredths / 100), "all")
                assert planned == ((steps / strength).__floor__(), steps)


def test_almost_no_denoise_still_executes_all_steps_of_a_bounded_schedule():
    assert plan_steps(20, 1e-300, "all") == (MAX_TOTAL, 20)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("denoise", [0.01, 0.24, 0.4, 1.0])
def test_a_schedule_holds_exactly_the_steps_asked_for(scheduler_config, name, denoise):
    schedule = make_schedule(scheduler_config, name, 20, denoise, "all")
    assert len(schedule.timesteps) == 20
    assert len(schedule.scheduler.timesteps) == int(20 / denoise)
    assert schedule.scheduler.begin_index == int(20 / denoise) - 20
    assert (schedule.timesteps.diff() <= 0).all()


@pytest.mark.parametrize("name", ["euler", "ddim"])
@pytest.mark.parametrize("denoise", [0.01, 0.24, 0.4, 0.77, 1.0])
def test_the_first_step_stands_at_the_strength(scheduler_config, name, denoise):
    steps = 30
    schedule = make_schedule(scheduler_config, name, steps, denoise, "all")
    one_step = 1000 * denoise / steps
    # Whole numbers of steps, the floor of the rule, and n points that have n − 1 strides.
    assert float(schedule.timesteps[0]) == pytest.approx(1000 * denoise, abs=one_step + 1)
    zeros, ones = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    noised = schedule.scheduler.add_noise(zeros, ones, schedule.timesteps[:1]).item()
    signal = schedule.scheduler.alphas_cumprod[round(float(schedule.timesteps[0]))]
    assert noised == pytest.approx(float(((1 - signal) / signal).sqrt()), rel=0.1)


def test_karras_starts_where_the_tail_of_the_whole_schedule_does(scheduler_config):
    schedule = make_schedule(scheduler_config, "dpmpp_2m_karras", 20, 0.4, "all")
    scheduler = schedule.scheduler
    alphas = scheduler.alphas_cumprod
    root = ((1 - alphas) / alphas).sqrt().double() ** (1 / 7)
    sigmas = torch.linspace(root[-1], root[0], 50, dtype=torch.float64) ** 7
    tail = scheduler.sigmas[scheduler.begin_index : -1].double()
    assert torch.allclose(tail, sigmas[-20:], rtol=1e-4)


def test_ddim_ends_without_noise_on_any_fine_schedule(scheduler_config):
    """A model that knows the noise leads back to the picture, also where 1000 is no multiple."""
    generator = torch.Generator().manual_seed(0)
    picture, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    for name in NAMES:
        for steps, denoise in ((20, 0.4), (23, 0.031), (15, 0.27), (20, 0.9)):
            config = {**scheduler_config, "prediction_type": "epsilon"}
            schedule = make_schedule(config, name, steps, denoise, "all")
            scheduler = schedule.scheduler
            latents = scheduler.add_noise(picture[None], noise[None], schedule.timesteps[:1])
            for timestep in schedule.timesteps:
                scheduler.scale_model_input(latents, timestep)
                latents = scheduler.step(noise[None], timestep, latents).prev_sample
            assert (latents - picture).abs().max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_diffusers_rule_is_that_of_diffusers(scheduler_config, name):
    for steps in (15, 20, 31, 75):
        for hundredths in range(7, 101):
            schedule = make_schedule(scheduler_config, name, steps, hundredths / 100, "diffusers")
            theirs = _their_timesteps(schedule.scheduler, steps, hundredths / 100)
            assert schedule.timesteps.tolist() == theirs


def _their_timesteps(scheduler, steps: int, strength: float) -> list[float]:
    pipeline = StableDiffusionXLInpaintPipeline.__new__(StableDiffusionXLInpaintPipeline)
    object.__setattr__(pipeline, "scheduler", scheduler)
    timesteps, _ = pipeline.get_timesteps(steps, strength, "cpu")
    return timesteps.tolist()


def test_each_job_has_a_scheduler_of_its_own(scheduler_config):
    first, second = (
        make_schedule(scheduler_config, "dpmpp_2m_karras", 20, 0.4, "all") for _ in range(2)
    )
    latents = torch.zeros(1, 4, 8, 8)
    first.scheduler.step(latents, first.timesteps[0], latents)
    assert second.scheduler.step_index is None
    assert second.scheduler.model_outputs == [None, None]
