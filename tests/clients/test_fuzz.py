"""The server does what its OpenAPI document says, whatever schemathesis makes up."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIG = Path(__file__).with_name("schemathesis.toml")
SUPPORT = Path(__file__).parents[1] / "support"
PROGRAM = Path(sys.executable).with_name("schemathesis")
# Calls that need the models, and take a while for it.
WORKING = ("/v1/face-detailer", "/v1/face-detailer/detect", "/v2/face-detailer")


@pytest.fixture
def hold(new_key: Callable[[int], str], server_url: str, tmp_path: Path) -> Callable[..., None]:
    """`hold(option, …)`: run schemathesis, which must find nothing."""

    def run(*options: str) -> None:
        path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [PROGRAM, "--config-file", CONFIG, "run", f"{server_url}/openapi.json", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "FACE_DETAILER_FUZZ_KEY": new_key(10_000)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No issues found" in done.stdout

    return run


@pytest.mark.slow
def test_made_up_calls(hold: Callable[..., None]) -> None:
    hold("--phases=examples,fuzzing,stateful", "--max-examples=4", "--generation-deterministic")


@pytest.mark.slow
def test_calls_at_the_edges(hold: Callable[..., None]) -> None:
    without = [f"--exclude-path={path}" for path in WORKING]
    hold("--phases=coverage", "--generation-deterministic", *without)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_many_calls(hold: Callable[..., None]) -> None:
    hold("--max-examples=100", "--max-time=1500", "--continue-on-failure")
