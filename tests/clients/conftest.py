"""The real server, as an operator starts it, on the tiny profile."""

import base64
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest

PROGRAM = Path(sys.executable).with_name("face-detailer")
READY_S = 120.0


def run_server(folder: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """Start the server and read its address from its first line."""
    log = (folder / "log.txt").open("w")
    command = [PROGRAM, "serve", "--profile", "tiny", "--port", "0"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
    )
    log.close()
    assert process.stdout
    url = process.stdout.readline().rpartition(" ")[2].strip()
    return process, url


def wait_until_ready(process: subprocess.Popen[str], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"The server did not get ready:\n{log.read_text()}")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the server and the commands beside it are told."""
    kept = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    return kept | {
        "FACE_DETAILER_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "FACE_DETAILER_FETCH_PRIVATE_ADDRESSES": "true",
    }


@pytest.fixture(scope="session")
def server_url(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    process, url = run_server(folder, environment)
    try:
        wait_until_ready(process, url, folder / "log.txt")
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def new_key(environment: dict[str, str], server_url: str) -> Callable[[int], str]:
    """`new_key(credits)`: a key made by the command line beside the running server."""
    assert server_url

    def create(credits_: int) -> str:
        command = [PROGRAM, "keys", "create", "--credits", str(credits_)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    return create


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
