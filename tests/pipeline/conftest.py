"""The embedded profile, loaded once for all tests of this folder."""

import json
from pathlib import Path

import pytest

from pipeline.detailer import FaceDetailer
from pipeline.loading import load
from weights.manifest import profile_folder


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return profile_folder("tiny")


@pytest.fixture(scope="session")
def detailer(tiny_folder: Path) -> FaceDetailer:
    return load(tiny_folder, "cpu")


@pytest.fixture(scope="session")
def scheduler_config(tiny_folder: Path) -> dict:
    return json.loads((tiny_folder / "scheduler" / "scheduler_config.json").read_text())
