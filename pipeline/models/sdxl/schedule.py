"""Which steps a trajectory takes: timesteps and noise, computed on the host once per job.

Latents are kept as picture + σ · noise (Karras et al., arXiv 2206.00364), σ being the noise's
standard deviation over the picture's share, √((1 − ᾱ) / ᾱ). The tests compare with diffusers'
schedulers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config_inpainter import SchedulerName, Spacing, StepRule
from pipeline.steps import plan_steps

Floats: TypeAlias = NDArray[np.float64]
Prediction = Literal["epsilon", "sample", "v_prediction"]

# A last ᾱ of 0 would make σ infinite; this is float16's smallest positive number.
LEAST_ALPHA = 2.0**-24
KARRAS_RHO = 7.0
# In a model's scheduler configuration: what else than these values there is no code for.
ONLY: dict[str, tuple[object, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "sample", "v_prediction"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
    **dict.fromkeys(("trained_betas", "sigma_min", "sigma_max"), (None,)),
    **dict.fromkeys(
        ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas"),
        (False, None),
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class NoiseModel:
    """How a model was trained: `scheduler_config.json`, as diffusers writes it.

    `sigmas`: (T,), of each timestep. `spacing`, `steps_offset`: how its own schedule lies in those.
    `ddim_final_sigma`: what DDIM leaves by diffusers' rule: none, or that of timestep 0.
    """

    sigmas: Floats
    prediction: Prediction
    spacing: Literal["linspace", "leading", "trailing"]
    steps_offset: int
    ddim_final_sigma: float

    @property
    def train_steps(self) -> int:
        """T: timesteps there are."""
        return len(self.sigmas)


def read_noise_model(config: Mapping[str, Any]) -> NoiseModel:
    """A scheduler's configuration, with diffusers' defaults where it says nothing.

    Raises:
        ValueError: a key has a value that there is no code for.
    """
    for key, allowed in ONLY.items():
        if config.get(key, allowed[0]) not in allowed:
            names = ", ".join(str(value) for value in allowed)
            raise ValueError(f"the scheduler's {key} should be {names}, got {config[key]}")
    sigmas = _train_sigmas(config)
    return NoiseModel(
        sigmas,
        config.get("prediction_type", "epsilon"),
        config.get("timestep_spacing", "leading"),
        int(config.get("steps_offset", 0)),
        0.0 if config.get("set_alpha_to_one", True) else float(sigmas[0]),
    )


def _train_sigmas(config: Mapping[str, Any]) -> Floats:
    """In float32 up to ᾱ, as diffusers computes it: its rounding is part of the models."""
    count = int(config.get("num_train_timesteps", 1000))
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    power = 2 if config.get("beta_schedule", "linear") == "scaled_linear" else 1
    betas = torch.linspace(start ** (1 / power), end ** (1 / power), count) ** power
    alphas: Floats = torch.cumprod(1 - betas, dim=0).double().numpy()
    if config.get("rescale_betas_zero_snr"):
        alphas = _without_terminal_signal(alphas)
    sigmas: Floats = np.sqrt((1 - alphas) / alphas)
    return sigmas


def _without_terminal_signal(alphas: Floats) -> Floats:
    """The last timestep is noise alone (Lin et al., arXiv 2305.08891, algorithm 1)."""
    roots = np.sqrt(alphas)
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    shifted: Floats = np.maximum(roots**2, LEAST_ALPHA)
    return shifted


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """The n steps that a job executes, in order.

    `timesteps`: (n,), what the UNet is told. `sigmas`: (n + 1,), of the latents before each step;
    0 after the last. `reached`: (n,), the noise that each step leaves by its rule, which is not
    that of the next timestep everywhere in diffusers. `orders`: (n,), 1 or 2, of each step: whether
    it looks back. `pure_sigma`: what noise is multiplied with where nothing of the picture is to be
    left. `prediction`: what the UNet answers.
    """

    timesteps: Floats
    sigmas: Floats
    reached: Floats
    orders: NDArray[np.int64]
    pure_sigma: float
    prediction: Prediction

    def __len__(self) -> int:
        return len(self.timesteps)


def make_schedule(
    noise: NoiseModel,
    name: SchedulerName,
    steps: int,
    strength: float,
    rule: StepRule,
    spacing: Spacing = "linspace",
) -> Schedule:
    """The steps that are executed, the tail of a whole schedule.

    Args:
        noise: the model's.
        name: which sampler steps.
        steps: see `plan_steps`.
        strength: see `plan_steps`.
        rule: see `plan_steps`.
        spacing: of the timesteps under the rule "all", where the model's own default, "leading",
            rounds its stride down and loses the top of a fine schedule.
    """
    total, executed = plan_steps(steps, strength, rule)
    spaced = spacing if rule == "all" else noise.spacing
    if name == "dpmpp_2m_karras":
        return _karras(noise, total, executed)
    # Without noise of its own DDIM is Euler's method in σ (Song et al., arXiv 2010.02502, section
    # 4.3). By diffusers' rule it walks by whole strides of ⌊T / steps⌋, so that on a fine schedule
    # it would end long before the noise does.
    strides = name == "ddim" and rule == "diffusers"
    timesteps = _timesteps(noise, spaced, total, whole=strides)[-executed:]
    at = np.arange(noise.train_steps)
    before = np.interp(timesteps, at, noise.sigmas)
    if strides:
        after = timesteps - noise.train_steps // total
        reached = np.where(after >= 0, np.interp(after, at, noise.sigmas), noise.ddim_final_sigma)
    else:
        reached = np.append(before[1:], 0.0)
    vanishing = name == "euler" and spaced != "leading"
    return Schedule(
        timesteps,
        np.append(before, 0.0),
        reached,
        np.ones(executed, np.int64),
        float(before[0] if vanishing else np.hypot(before[0], 1)),
        noise.prediction,
    )


def _karras(noise: NoiseModel, total: int, executed: int) -> Schedule:
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095) on the noise levels of Karras et al."""
    # The first of a whole schedule is 0 of the way from the most noise to the least.
    way = np.linspace(0, 1, total)[-executed:]
    most, least = noise.sigmas[-1] ** (1 / KARRAS_RHO), noise.sigmas[0] ** (1 / KARRAS_RHO)
    sigmas = (most + way * (least - most)) ** KARRAS_RHO
    logs = np.log(noise.sigmas)
    timesteps = np.interp(np.log(sigmas), logs, np.arange(noise.train_steps)).round()
    # The first has none to look back to; the last one, to no noise, has no length in log σ.
    orders = np.full(executed, 2)
    orders[[0, -1]] = 1
    levels = np.append(sigmas, 0.0)
    pure = float(np.hypot(sigmas[0], 1))
    return Schedule(timesteps, levels, levels[1:], orders, pure, noise.prediction)


def _timesteps(noise: NoiseModel, spacing: str, total: int, *, whole: bool) -> Floats:
    """A whole schedule's, descending (Lin et al., arXiv 2305.08891, table 2)."""
    train = noise.train_steps
    if spacing == "trailing":
        return trailing_timesteps(train, total).astype(np.float64)
    if spacing == "leading":
        strides = np.arange(total, dtype=np.float64)[::-1] * (train // total)
        return strides + noise.steps_offset
    even: Floats = np.linspace(0, train - 1, total, dtype=np.float64)[::-1]
    if whole:
        even = even.round()
    return even


def trailing_timesteps(train_steps: int, total: int) -> NDArray[np.int64]:
    """`total` timesteps that end one stride above no noise (Lin et al., arXiv 2305.08891, table 2).

    That is train steps · k / total − 1 for k = total … 1, rounded, with ties to the even number;
    none is below 0, where a stride is less than half a timestep.

    >>> trailing_timesteps(1000, 3).tolist()
    [999, 666, 332]
    """
    whole, rest = np.divmod(train_steps * np.arange(total, 0, -1), total)
    up = (2 * rest > total) | ((2 * rest == total) & (whole % 2 == 1))
    timesteps: NDArray[np.int64] = np.maximum(whole + up - 1, 0)
    return timesteps
