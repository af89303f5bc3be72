"""Which timesteps a job walks: diffusers' schedulers, entered part-way."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from pipeline.config import SchedulerName, StepRule

_CLASSES: dict[SchedulerName, tuple[Any, dict[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "ddim": (DDIMScheduler, {}),
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """One job's own scheduler (diffusers' keep state), and the timesteps to execute, in order."""

    scheduler: Any
    timesteps: torch.Tensor


def plan_steps(steps: int, strength: float, rule: StepRule, train_steps: int) -> tuple[int, int]:
    """How many steps the whole schedule has, and how many of its tail are executed.

    "all", the rule of ComfyUI's Impact Pack: every step asked for is executed, on the tail of a
    schedule of ⌊steps / strength⌋. Below `train_steps` there is nothing finer to walk on, so a
    strength under steps / train_steps executes only the steps that there are.
    "diffusers": the schedule has `steps`, and ⌊steps · strength⌋ of them are executed.

    Args:
        steps: steps asked for, 1 or more.
        strength: how far up the noise the walk starts, in (0, 1].
        rule: see above.
        train_steps: timesteps the model was trained with.
    """
    if rule == "diffusers":
        return steps, max(1, min(int(steps * strength), steps))
    # The small constant keeps 20 / 0.4 at 50, where binary fractions give 49.999….
    total = min(int(steps / strength + 1e-6), train_steps)
    return total, max(1, min(steps, round(total * strength)))


def make_schedule(
    config: dict[str, Any], name: SchedulerName, steps: int, strength: float, rule: StepRule
) -> Schedule:
    """A fresh scheduler that stands at the first of the executed timesteps.

    Args:
        config: the model's scheduler configuration, as diffusers saves it.
        name: which sampler walks.
        steps: see `plan_steps`.
        strength: see `plan_steps`.
        rule: see `plan_steps`.
    """
    scheduler_class, extra = _CLASSES[name]
    if rule == "all":
        # "leading", SDXL's default, rounds its stride down and loses the top of a fine schedule.
        extra = {**extra, "timestep_spacing": "linspace"}
    scheduler = scheduler_class.from_config(config, **extra)
    total, executed = plan_steps(steps, strength, rule, scheduler.config.num_train_timesteps)
    scheduler.set_timesteps(total)
    start = len(scheduler.timesteps) - executed
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return Schedule(scheduler, scheduler.timesteps[start:])
