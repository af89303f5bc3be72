"""Each crop repainted as it is and mirrored, and the mean of both taken.

Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016, call
it enhanced prediction: what a network guesses otherwise of the mirrored face is error, and halved.
It wants a network whose answer is a mean of what might be, as one that restores in one step; two
faces made up from noise would blur into each other.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch

from pipeline.resampling import mirrored
from pipeline.stages import OnStep
from pipeline.types import Image, InpaintJob, SoftMask


def both_ways(jobs: Sequence[InpaintJob]) -> list[InpaintJob]:
    """The jobs, then their mirror images in order. Jobs of one picture stay jobs of one."""
    images = {id(job.image): Image(mirrored(job.image.pixels)) for job in jobs}
    masks = {id(job.mask): SoftMask(mirrored(job.mask.pixels)) for job in jobs}
    others = [replace(job, image=images[id(job.image)], mask=masks[id(job.mask)]) for job in jobs]
    return [*jobs, *others]


def means(painted: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What became of `both_ways`, (1, 3, S, S) each → that of the jobs."""
    count = len(painted) // 2
    return [
        (one + other.flip(-1)) / 2
        for one, other in zip(painted[:count], painted[count:], strict=True)
    ]


def every_second(on_step: OnStep) -> OnStep:
    """Calls `on_step` at every second call, from any thread: a job's step is two of the network."""
    calls = itertools.count(1)

    def step() -> None:
        if next(calls) % 2 == 0:
            on_step()

    return step
