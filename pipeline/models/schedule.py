"""Which timesteps a job walks: diffusers' schedulers, entered part-way."""

import copy
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from pipeline.config import SchedulerName, Spacing, StepRule
from pipeline.steps import plan_steps

_CLASSES: dict[SchedulerName, tuple[Any, dict[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    # Its default clips to [−1, 1], which latents pass.
    "ddim": (DDIMScheduler, {"clip_sample": False}),
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """One job's own scheduler (diffusers' keep state), and the timesteps to execute, in order."""

    scheduler: Any
    timesteps: torch.Tensor


def make_schedule(
    config: dict[str, Any],
    name: SchedulerName,
    steps: int,
    strength: float,
    rule: StepRule,
    spacing: Spacing = "linspace",
) -> Schedule:
    """A fresh scheduler that stands at the first of the executed timesteps.

    Args:
        config: the model's scheduler configuration, as diffusers saves it.
        name: which sampler walks.
        steps: see `plan_steps`.
        strength: see `plan_steps`.
        rule: see `plan_steps`.
        spacing: of the timesteps under the rule "all"; "diffusers" keeps the model's own.
    """
    if rule == "all" and name == "ddim":
        # Without noise of its own DDIM is Euler's method in sigma (Song et al., arXiv 2010.02502,
        # section 4.3). diffusers' DDIM walks by whole strides of ⌊train steps / steps⌋, so on a
        # fine schedule it would end long before the noise does.
        name = "euler"
    if rule == "all":
        # "leading", SDXL's default, rounds its stride down and loses the top of a fine schedule.
        config = {**config, "timestep_spacing": spacing}
    total, executed = plan_steps(steps, strength, rule)
    scheduler = copy.deepcopy(_whole_schedule(name, json.dumps(config, sort_keys=True), total))
    start = len(scheduler.timesteps) - executed
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return Schedule(scheduler, scheduler.timesteps[start:])


# Remembered: diffusers takes a millisecond per ten Karras steps, and a request may hold 160 jobs.
@lru_cache(maxsize=64)
def _whole_schedule(name: SchedulerName, config_json: str, total: int) -> Any:
    scheduler_class, options = _CLASSES[name]
    scheduler = scheduler_class.from_config(json.loads(config_json), **options)
    scheduler.set_timesteps(total)
    return scheduler
