"""How many denoising steps a pass takes, and of what schedule they are the tail."""

from pipeline.config_inpainter import StepRule

# The finest schedule that is ever made. The last 20 of its steps start below timestep 1 of 1000,
# where next to no noise is left.
MAX_TOTAL = 20_000


def plan_steps(steps: int, strength: float, rule: StepRule) -> tuple[int, int]:
    """How many steps the whole schedule has, and how many of its tail are executed.

    "all", the rule of ComfyUI's Impact Pack: every step asked for is executed, as the tail of a
    schedule of ⌊steps / strength⌋. A strength below steps / `MAX_TOTAL` counts as that.
    "diffusers": the schedule has `steps`, and ⌊steps · strength⌋ of them are executed, but one at
    least.

    Args:
        steps: steps asked for, 1 or more.
        strength: how far up the noise it starts, in (0, 1].
        rule: see above.

    >>> plan_steps(20, 0.4, "all"), plan_steps(20, 0.4, "diffusers")
    ((50, 20), (20, 8))
    """
    if rule == "diffusers":
        return steps, max(1, min(int(steps * strength), steps))
    # The small constant is for products such as 0.4 · 0.6, whose binary fractions end above 0.24.
    return int(min(steps / strength + 1e-6, MAX_TOTAL)), steps
