"""Real databases for the tests of accounts: SQLite files, and a private PostgreSQL cluster."""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bank import Bank

from server.settings import Settings

POSTGRES_USER = "postgres"


def postgres_binaries() -> Path | None:
    """The newest installed PostgreSQL server's folder."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    candidates = [*folders, *([Path(on_path)] if on_path else [])]
    return candidates[0].parent if candidates else None


@dataclass
class Cluster:
    """A PostgreSQL server of our own. It runs; `stop` and `start` as often as a test likes."""

    address: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextlib.contextmanager
def postgres_cluster(binaries: Path) -> Iterator[Cluster]:
    """A cluster that listens on a socket in its own folder."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    who = {"user": POSTGRES_USER, "group": POSTGRES_USER} if os.getuid() == 0 else {}
    if who:
        shutil.chown(folder, **who)
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"

    def run(program: str, *arguments: str) -> None:
        command = [binaries / program, *arguments]
        log = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder, **who)

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", POSTGRES_USER, "-A", "trust", "-N")
        start = functools.partial(run, "pg_ctl", "-D", data, "-o", options, "-w", "start")
        stop = functools.partial(run, "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        start()
        try:
            yield Cluster(
                f"postgresql+psycopg://{POSTGRES_USER}@/postgres?host={folder}", stop, start
            )
        finally:
            # A test may have left it stopped.
            with contextlib.suppress(subprocess.CalledProcessError):
                stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One that a test may stop."""
    with postgres_cluster(_binaries_or_skip()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgres_cluster(_binaries_or_skip()) as cluster:
        yield cluster.address


def _binaries_or_skip() -> Path:
    pytest.importorskip("psycopg")
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed")
    return binaries


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with an empty database, of each kind."""
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path / "data")
    import psycopg

    address: str = request.getfixturevalue("postgres")
    # A schema is made, and gone, in a fraction of a database's time.
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    own = f"{address}&options=-csearch_path%3D{name}"
    return Settings(data_dir=tmp_path / "data", database_url=own)


@pytest.fixture
def bank(database_settings: Settings) -> Iterator[Bank]:
    bank = Bank(database_settings)
    with contextlib.closing(bank.accounts):
        yield bank
