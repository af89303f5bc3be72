"""Commands whose database fails: one sentence, exit code 1, and nothing half done."""

import contextlib
import functools
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from accounts_fixtures import Cluster
from server_program import environment_with

from server.cli import server_checks
from server.cli.findings import Machine
from server.settings import Settings

COMMAND = [sys.executable, "-c", "from server.cli.main import main; main()"]
CREATE = ("keys", "create", "--credits", "1")


def run(
    *words: str, before: Callable[[], None] | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    environment = environment_with(devices="cpu", profile="tiny", port="0", **settings) | path
    return subprocess.run(
        [*COMMAND, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )


def assert_one_sentence(done: subprocess.CompletedProcess[str], why: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("face-detailer: The database ")
    assert why in line


def keys_of(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "accounts.sqlite3")) as database:
        ((count,),) = database.execute("SELECT count(*) FROM api_keys")
    return int(count)


@pytest.mark.slow
@pytest.mark.parametrize("words", [CREATE, ("credits", "add", "1", "5"), ("serve",)])
def test_a_locked_database(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert run(*CREATE, data_dir=str(tmp_path)).returncode == 0
    file = tmp_path / "accounts.sqlite3"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert_one_sentence(run(*words, data_dir=str(tmp_path)), "database is locked")
        connection.execute("ROLLBACK")
    assert keys_of(tmp_path) == 1


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    assert run(*CREATE, data_dir=str(tmp_path)).returncode == 0
    limit = (resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    full = functools.partial(resource.setrlimit, *limit)
    assert_one_sentence(run(*CREATE, before=full, data_dir=str(tmp_path)), "disk I/O error")
    assert keys_of(tmp_path) == 1
    assert run(*CREATE, data_dir=str(tmp_path)).returncode == 0


def test_doctor_reads_the_database_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "accounts.sqlite3"

    def said() -> tuple[str, str]:
        machine = Machine(Settings(data_dir=tmp_path), None, "")
        (finding,) = server_checks.keys(machine)
        return finding.state, finding.text

    def version(number: str) -> None:
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("UPDATE alembic_version SET version_num = ?", [number])
            database.commit()

    assert said() == ("ok", "none yet: the first `serve` makes one and prints it")
    assert not file.exists()
    assert run(*CREATE, data_dir=str(tmp_path)).returncode == 0
    version("0001")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert said() == ("ok", "1 valid key")
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    version("9000")
    assert said() == ("failed", "The database is a newer face-detailer's: 9000")
    file.write_bytes(b"no database" * 1000)
    assert said() == ("failed", "The database cannot be opened: file is not a database")


@pytest.mark.slow
def test_a_stopped_postgresql(cluster: Cluster, tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path), "database_url": cluster.address}
    assert run(*CREATE, **settings).returncode == 0
    cluster.stop()
    assert_one_sentence(run("keys", "list", **settings), "cannot be opened")
    cluster.start()
    assert run("keys", "list", **settings).stdout.count("SG_") == 1
