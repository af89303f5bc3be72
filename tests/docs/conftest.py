"""The real server on the tiny profile, and what a reader's shell knows."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest

PROGRAM = Path(sys.executable).with_name("face-detailer")
READY_S = 120.0


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def environment(data_dir: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    kept = {name: value for name, value in kept.items() if not name.startswith("FACE_DETAILER_")}
    return kept | {"FACE_DETAILER_DATA_DIR": str(data_dir)}


@pytest.fixture(scope="session")
def server_url(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [PROGRAM, "serve", "--profile", "tiny", "--port", "0"]
    with (
        log.open("w") as stream,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=stream, text=True
        ) as server,
    ):
        assert server.stdout
        url = server.stdout.readline().rpartition(" ")[2].strip()
        try:
            deadline = time.monotonic() + READY_S
            with httpx.Client(trust_env=False) as client:
                while client.get(f"{url}/ready").status_code != 200:
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.2)
            yield url
        finally:
            server.terminate()
            server.communicate(timeout=60)


@pytest.fixture
def shell(environment: dict[str, str], server_url: str) -> dict[str, str]:
    """The environment of a reader who has exported `KEY`."""
    assert server_url
    command = [PROGRAM, "keys", "create", "--credits", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return environment | {"KEY": done.stdout.split()[-1]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the example's picture in it: small and without a face, to be quick."""
    (tmp_path / "examples").mkdir()
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([rows * 5, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "examples" / "astronaut-damaged.jpg")
    return tmp_path
