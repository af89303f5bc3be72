"""What the upscaler learns from: pairs that belong together, and a split without overlap."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import common, upscaler


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Nine photographs and a held-out sample, of smooth random colours."""
    for folder, count in (("photos", 9), ("photos-held-out", 1)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            noise = np.random.default_rng(index).integers(0, 256, (9, 12, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).resize((240, 180), Image.Resampling.BICUBIC)
            picture.save(tmp_path / folder / f"{index}.png")
    return tmp_path


def test_no_photograph_is_on_both_sides_of_the_split(data: Path) -> None:
    training = upscaler.photo_files(data, validation=False)
    held_out = upscaler.photo_files(data, validation=True)
    assert (len(training), len(held_out)) == (7, 3)
    assert not set(training) & set(held_out)


def test_without_photographs_the_command_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run python -m training\.photos first"):
        upscaler.photo_files(tmp_path, validation=False)


def test_the_low_half_of_a_pair_is_the_high_half_reduced(data: Path) -> None:
    rng = random.Random(0)
    files = upscaler.photo_files(data, validation=False)
    pictures = [Image.fromarray(common.load_rgb(file)) for file in files]
    for _ in range(50):
        low, high = upscaler.random_pair(pictures, rng)
        assert low.shape == (upscaler.LOW_PX, upscaler.LOW_PX, 3)
        assert high.shape == (2 * upscaler.LOW_PX, 2 * upscaler.LOW_PX, 3)
        halved = high.reshape(upscaler.LOW_PX, 2, upscaler.LOW_PX, 2, 3).mean(axis=(1, 3))
        error = np.abs(halved - low).mean()
        for turned in (np.rot90(halved, 1), np.rot90(halved, 2), halved[:, ::-1], halved[::-1]):
            assert error < np.abs(turned - low).mean() / 2


def test_psnr_is_in_decibels() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert upscaler.psnr(grey + np.uint8(1), grey) == pytest.approx(48.13, abs=0.01)
    assert upscaler.psnr(grey + np.uint8(10), grey) == pytest.approx(28.13, abs=0.01)
