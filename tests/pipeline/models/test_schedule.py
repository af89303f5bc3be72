"""How many steps a job walks, and from how much noise."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from diffusers import StableDiffusionXLInpaintPipeline
from their_samplers import THEIRS

from pipeline.config_inpainter import InpainterConfig
from pipeline.errors import WeightsError
from pipeline.models.sdxl.networks import read_networks
from pipeline.models.sdxl.schedule import make_schedule, read_noise_model
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
def test_a_schedule_holds_exactly_the_steps_asked_for(noise_model, name, denoise):
    schedule = make_schedule(noise_model, name, 20, denoise, "all")
    assert len(schedule) == 20
    assert (np.diff(schedule.timesteps) <= 0).all()
    assert (np.diff(schedule.sigmas) < 0).all()
    assert schedule.sigmas[-1] == 0 < schedule.sigmas[-2]


@pytest.mark.parametrize("name", ["euler", "ddim"])
@pytest.mark.parametrize("denoise", [0.01, 0.24, 0.4, 0.77, 1.0])
def test_the_first_step_stands_at_the_strength(noise_model, name, denoise):
    steps = 30
    schedule = make_schedule(noise_model, name, steps, denoise, "all")
    one_step = 1000 * denoise / steps
    # Whole numbers of steps, the floor of the rule, and n points that have n − 1 strides.
    assert schedule.timesteps[0] == pytest.approx(1000 * denoise, abs=one_step + 1)
    signal = noise_model.sigmas[round(schedule.timesteps[0])]
    assert schedule.sigmas[0] == pytest.approx(signal, rel=0.1)


def test_karras_starts_where_the_tail_of_the_whole_schedule_does(noise_model):
    schedule = make_schedule(noise_model, "dpmpp_2m_karras", 20, 0.4, "all")
    root = noise_model.sigmas ** (1 / 7)
    whole = np.linspace(root[-1], root[0], 50) ** 7
    assert np.allclose(schedule.sigmas[:-1], whole[-20:], rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_diffusers_rule_is_that_of_diffusers(scheduler_config, noise_model, name):
    kind, options = THEIRS[name]
    for steps in (15, 20, 31, 75):
        scheduler = kind.from_config(scheduler_config, **options)
        scheduler.set_timesteps(steps)
        for hundredths in range(7, 101):
            schedule = make_schedule(noise_model, name, steps, hundredths / 100, "diffusers")
            theirs = _their_timesteps(scheduler, steps, hundredths / 100)
            assert schedule.timesteps.tolist() == theirs


def _their_timesteps(scheduler, steps: int, strength: float) -> list[float]:
    pipeline = StableDiffusionXLInpaintPipeline.__new__(StableDiffusionXLInpaintPipeline)
    object.__setattr__(pipeline, "scheduler", scheduler)
    timesteps, _ = pipeline.get_timesteps(steps, strength, "cpu")
    return timesteps.tolist()


@pytest.mark.slow
def test_trailing_timesteps_are_the_exact_ones_for_every_number_of_steps(noise_model):
    """⌊1000 · k / n⌉ − 1 for k = n … 1, in fractions, whose `round` takes ties to the even one."""
    for total in range(1, 2001):
        schedule = make_schedule(noise_model, "euler", total, 1.0, "all", "trailing")
        wanted = [max(0, round(Fraction(1000 * k, total)) - 1) for k in range(total, 0, -1)]
        assert schedule.timesteps.tolist() == wanted
        if total <= 1000:
            assert (np.diff(schedule.timesteps) < 0).all()
        assert len(schedule.sigmas) == total + 1


@pytest.mark.parametrize("name", ["euler", "ddim"])
def test_trailing_timesteps_are_those_of_diffusers_where_those_are_right(scheduler_config, name):
    """Theirs have a step too many, the last at −1, where the float of a stride is a little small;
    and where a timestep lies half-way between two, theirs is either.
    """
    config = {**scheduler_config, "timestep_spacing": "trailing"}
    scheduler = THEIRS[name][0].from_config(config)
    noise = read_noise_model(config)
    wrong = 0
    for total in range(1, 1001):
        ours = make_schedule(noise, name, total, 1.0, "diffusers").timesteps
        scheduler.set_timesteps(total)
        found = scheduler.timesteps.long().numpy()
        wrong += len(found) != total
        assert len(ours) == total
        ties = 2 * (1000 * np.arange(total, 0, -1) % total) == total
        apart = np.abs(ours - found[:total])
        assert apart[~ties].max(initial=0) == 0
        assert apart.max() <= 1
    assert wrong > 50


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("name", NAMES)
def test_a_whole_schedule_has_exactly_its_steps(scheduler_config, name, spacing):
    """Noise falls at every step; timesteps fall with it, where there are enough whole ones."""
    noise = read_noise_model({**scheduler_config, "timestep_spacing": spacing})
    for total in range(1, 1001 if name == "ddim" else 2001):
        schedule = make_schedule(noise, name, total, 1.0, "diffusers")
        timesteps = schedule.timesteps
        assert len(timesteps) == total
        assert timesteps.min() >= 0
        if name == "dpmpp_2m_karras":
            assert (np.diff(timesteps) <= 0).all()
            assert (np.diff(schedule.sigmas) < 0).all()
        elif total <= 1000 or spacing == "linspace":
            assert (np.diff(timesteps) < 0).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta_schedule", "squaredcos_cap_v2"),
        ("prediction_type", "flow_prediction"),
        ("use_beta_sigmas", True),
        ("timestep_type", "continuous"),
        ("sigma_max", 80.0),
    ],
)
def test_a_scheduler_that_is_not_known_is_refused_with_a_sentence(
    scheduler_config, tiny_folder, tmp_path, key, value
):
    shutil.copytree(tiny_folder, tmp_path / "own")
    file = tmp_path / "own" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**scheduler_config, key: value}))
    with pytest.raises(WeightsError, match=f"scheduler's {key} should be .*, got {value}"):
        read_networks(tmp_path / "own", InpainterConfig(".", "euler", "all", (1,)), "cpu")
