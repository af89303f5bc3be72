"""The command as it is installed, and a server on the tiny profile started by it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from server import ENV_PREFIX
from server.accounts.database import open_database
from server.accounts.keys import KeyRing
from server.settings import Settings

PROGRAM = Path(sys.executable).with_name("face-detailer")
READY_S = 120.0


def environment_with(**settings: str) -> dict[str, str]:
    """The environment of this process, without proxies and with these settings alone."""
    kept = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    kept = {name: value for name, value in kept.items() if not name.startswith(ENV_PREFIX)}
    return kept | {f"{ENV_PREFIX}{name.upper()}": value for name, value in settings.items()}


def run_server(folder: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """Start the server and read its address from its first line.

    In a folder with files that are named like modules: nothing of it may run them.
    """
    for name in ("server", "pipeline", "torch"):
        (folder / f"{name}.py").write_text("raise RuntimeError('of the current folder')")
    log = (folder / "log.txt").open("w")
    command = [PROGRAM, "serve", "--profile", "tiny", "--port", "0"]
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
    )
    log.close()
    assert process.stdout
    url = process.stdout.readline().rpartition(" ")[2].strip()
    return process, url


def wait_until_ready(
    process: subprocess.Popen[str], url: str, log: Path, within_s: float = READY_S
) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"The server did not get ready:\n{log.read_text()}")


def new_key(environment: dict[str, str], credits_: str | None) -> str:
    """A key of an account with so many credits (None: without limit), made in the server's database
    as `face-detailer keys create` does, whose start takes most of a second.
    """
    data_dir = Path(environment[f"{ENV_PREFIX}DATA_DIR"])
    database_url = environment.get(f"{ENV_PREFIX}DATABASE_URL")
    engine = open_database(Settings(data_dir=data_dir, database_url=database_url))
    try:
        amount = None if credits_ is None else Decimal(credits_)
        return KeyRing(engine).create_account("test", amount)
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the one server for all tests and the commands beside it are told. It fetches pictures
    from the tests' own hosts.
    """
    data_dir = str(tmp_path_factory.mktemp("data"))
    return environment_with(data_dir=data_dir, fetch_private_addresses="true", metrics="true")


@pytest.fixture(scope="session")
def server_url(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A ready server on the tiny profile, as an operator starts it."""
    folder = tmp_path_factory.mktemp("server")
    process, url = run_server(folder, environment)
    try:
        wait_until_ready(process, url, folder / "log.txt")
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=60)
