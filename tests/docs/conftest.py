"""The real server on the tiny profile, and what a reader's shell knows."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from server_program import new_key


@pytest.fixture
def shell(environment: dict[str, str], server_url: str) -> dict[str, str]:
    """The environment of a reader who has exported `KEY`."""
    assert server_url
    return environment | {"KEY": new_key(environment, "1")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the example's picture in it: small and without a face, to be quick."""
    (tmp_path / "examples").mkdir()
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([rows * 5, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "examples" / "astronaut-damaged.jpg")
    return tmp_path
