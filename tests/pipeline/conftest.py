"""The embedded profile, loaded once for all tests of this folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from composed import Pixels, astronaut_pixels
from example_calls import configured
from repainters import rebuilt

from pipeline.detailer import FaceDetailer
from pipeline.loading import load
from pipeline.models.sdxl.schedule import NoiseModel, read_noise_model


@pytest.fixture(scope="session")
def detailer(tiny_folder: Path) -> FaceDetailer:
    return load(tiny_folder, "cpu")


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    return astronaut_pixels()


@pytest.fixture(scope="session")
def scheduler_config(tiny_folder: Path) -> dict:
    return json.loads((tiny_folder / "scheduler" / "scheduler_config.json").read_text())


@pytest.fixture(scope="session")
def noise_model(scheduler_config) -> NoiseModel:
    return read_noise_model(scheduler_config)


@pytest.fixture(scope="session")
def quick(detailer) -> FaceDetailer:
    """The embedded profile at a small work size, all steps, and strengths that any weights show;
    not mirrored, as made-up faces are not to be.
    """
    profile = detailer.profile
    outline = replace(profile.outline, work_px=(64,), strength=1.0)
    detail = replace(profile.detail, work_px=(128,), strength=0.6)
    config = replace(profile.inpainter, steps=1.0, mirrored=False)
    small = replace(profile, outline=outline, detail=detail, inpainter=config)
    return rebuilt(detailer, configured(detailer._inpainter, config), small)
