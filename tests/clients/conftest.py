"""The real server, as an operator starts it, on the tiny profile."""

import base64
import io
import os
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest
import server_program


@pytest.fixture
def new_key(environment: dict[str, str], server_url: str) -> Callable[[int], str]:
    """`new_key(credits)`: a key made beside the running server."""
    assert server_url
    return lambda credits_: server_program.new_key(environment, str(credits_))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's clients read the proxy from the environment; the server is on loopback."""
    for name in [name for name in os.environ if "PROXY" in name.upper()]:
        monkeypatch.delenv(name)


@pytest.fixture
def picture() -> bytes:
    """A small PNG without a face."""
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([rows * 5, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def picture_base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
