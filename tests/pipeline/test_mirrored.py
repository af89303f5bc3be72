"""Crops repainted as they are and mirrored."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.models.sdxl.inpainter import SdxlInpainter
from pipeline.models.sdxl.mirrored import both_ways, once_for_both
from pipeline.types import Image, InpaintJob, SoftMask

ASTRONAUT = cv2.imread(str(Path(__file__).parents[2] / "examples" / "astronaut.png"))[..., ::-1]


def job(pixels: np.ndarray, mask: np.ndarray) -> InpaintJob:
    picture, kept = Image(np.ascontiguousarray(pixels)), SoftMask(np.ascontiguousarray(mask))
    return InpaintJob(picture, kept, "a portrait", "blur", 7, 1, 6.0, 0.04)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return ASTRONAUT[60:188, 160:288]


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """More of the left half than of the right one."""
    y, x = (np.mgrid[:128, :128] + 0.5) / 128 - 0.5
    return np.clip((0.35 - np.hypot(x + 0.1, y)) * 6, 0, 1).astype(np.float32)


def paint(inpainter: SdxlInpainter, *jobs: InpaintJob) -> list[np.ndarray]:
    answers = inpainter.inpaint(jobs, lambda _index: None, lambda: False)
    return [answer.pixels.astype(int) for answer in answers if answer is not None]


def test_the_mirror_image_becomes_the_mirror_image(detailer, pixels, mask):
    assert detailer.profile.inpainter.mirrored
    one, other = (
        paint(detailer._inpainter, order)[0]
        for order in (job(pixels, mask), job(pixels[:, ::-1], mask[:, ::-1]))
    )
    assert np.abs(one - pixels).max() > 5
    assert np.abs(one - other[:, ::-1]).max() <= 1


def test_it_is_the_mean_of_what_both_become(detailer, pixels, mask):
    tiny = detailer._inpainter
    config = replace(detailer.profile.inpainter, mirrored=False)
    plain = SdxlInpainter(tiny._unet, tiny._vae, tiny._text, tiny._noise_model, config)
    alone, mirrored = paint(plain, *both_ways([job(pixels, mask)]))
    assert np.abs(alone - mirrored[:, ::-1]).max() > 2
    (mean,) = paint(tiny, job(pixels, mask))
    assert np.abs(mean - (alone + mirrored[:, ::-1]) / 2).max() <= 1


def test_jobs_of_one_picture_stay_jobs_of_one(pixels, mask):
    first, other = job(pixels, mask), job(pixels + 1, mask)
    orders = both_ways([first, replace(first, seed=8), other])
    assert orders[3].image is orders[4].image
    assert orders[3].mask is orders[4].mask
    assert orders[5].image is not orders[3].image


def test_a_step_of_both_is_one_step():
    told: list[int] = []
    step = once_for_both(told.append, 2)
    for index in (0, 1, 2, 0, 2, 3):
        step(index)
    assert told == [0, 0, 1]
