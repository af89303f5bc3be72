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


def once_for_both(on_step: OnStep, count: int) -> OnStep:
    """For `both_ways` of `count` jobs: calls `on_step` once both images of a job took a step."""
    calls = [itertools.count(1) for _ in range(count)]

    def step(index: int) -> None:
        job = index % count
        if next(calls[job]) % 2 == 0:
            on_step(job)

    return step
