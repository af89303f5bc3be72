"""One denoising step of many trajectories at once: rows of any sampler, length and position.

Every sampler's step is a sum of the latents, of the picture that the UNet's answer means, and of
the one that it meant a step before. What each is multiplied with is a row of a table, of which a
device needs one copy per trajectory.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch

from pipeline.models.sdxl.schedule import Floats, Schedule


class Column(IntEnum):
    """A step's numbers. The UNet is told `TIMESTEP`, and sees the latents times `SEEN`.

    picture = `FROM_LATENTS` · latents + `FROM_ANSWER` · answer
    latents = `KEPT` · latents + `NEW` · picture + `OLD` · the last step's picture
    Where the mask is below `PAINTED_FROM` they are the original's instead, at `NOISE`.
    """

    TIMESTEP = 0
    SEEN = 1
    FROM_LATENTS = 2
    FROM_ANSWER = 3
    KEPT = 4
    NEW = 5
    OLD = 6
    NOISE = 7
    PAINTED_FROM = 8
    GUIDANCE = 9


class Latents(NamedTuple):
    """`now`: (N, 4, h, w), picture + σ · noise. `before`: likewise, the picture that the last
    step's answer meant.
    """

    now: torch.Tensor
    before: torch.Tensor


def step_table(schedule: Schedule, guidance_scale: float, *, blends: bool) -> torch.Tensor:
    """(n, columns) float32, on the CPU.

    Args:
        schedule: n steps.
        guidance_scale: by how much the prompt's answer is preferred to the negative one's.
        blends: whether the model is held to the mask: differential diffusion, see
            `DenoiseTrajectory`.
    """
    before, following, reached = schedule.sigmas[:-1], schedule.sigmas[1:], schedule.reached
    steps = len(schedule)
    # As a step leaves them, and as the next one takes them: see `Schedule.reached`.
    rescaled = np.sqrt((1 + following**2) / (1 + reached**2))
    left = reached / before
    look_back = _look_back(schedule)
    from_latents, from_answer = _meaning(schedule)
    table = np.empty((steps, len(Column)))
    table[:, Column.TIMESTEP] = schedule.timesteps
    table[:, Column.SEEN] = 1 / np.sqrt(before**2 + 1)
    table[:, Column.FROM_LATENTS] = from_latents
    table[:, Column.FROM_ANSWER] = from_answer
    table[:, Column.KEPT] = left * rescaled
    table[:, Column.NEW] = (1 - left) * (1 + look_back) * rescaled
    table[:, Column.OLD] = -(1 - left) * look_back * rescaled
    table[:, Column.NOISE] = following
    table[:, Column.PAINTED_FROM] = (steps - np.arange(1, steps + 1) + 0.5) / steps if blends else 0
    table[:, Column.GUIDANCE] = guidance_scale
    return torch.from_numpy(table.astype(np.float32))


def _meaning(schedule: Schedule) -> tuple[Floats, Floats]:
    """What makes a picture of the latents and of the UNet's answer."""
    sigmas = schedule.sigmas[:-1]
    ones = np.ones_like(sigmas)
    match schedule.prediction:
        case "epsilon":
            return ones, -sigmas
        case "sample":
            return 0 * ones, ones
        case "v_prediction":
            return 1 / (sigmas**2 + 1), -sigmas / np.sqrt(sigmas**2 + 1)


def _look_back(schedule: Schedule) -> Floats:
    """How far a step of second order goes on from the last picture to this one and beyond: half
    its own length in log σ over the last step's (Lu et al., arXiv 2211.01095, algorithm 2).
    """
    shares = np.zeros(len(schedule))
    logs = np.log(schedule.sigmas[:-1])
    second = np.flatnonzero(schedule.orders == 2)
    own = np.log(schedule.reached[second]) - logs[second]
    shares[second] = own / (logs[second] - logs[second - 1]) / 2
    return shares


def seen(latents: torch.Tensor, columns: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """What the UNet sees of the latents, (N, 4, h, w); `columns` as in `step`."""
    return latents * columns[Column.SEEN]


def step(
    latents: Latents, answer: torch.Tensor, columns: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take a step of N trajectories.

    Args:
        latents: before it.
        answer: the UNet's, guided, (N, 4, h, w).
        columns: the table's by `Column`, each trajectory's row of it: (N, 1, 1, 1).

    Returns:
        The latents after it, and the picture that the answer means.
    """
    picture = columns[Column.FROM_LATENTS] * latents.now + columns[Column.FROM_ANSWER] * answer
    kept, new, old = (columns[column] for column in (Column.KEPT, Column.NEW, Column.OLD))
    return kept * latents.now + new * picture + old * latents.before, picture
