"""The accounts' database: its versions, its file, its locks."""

import asyncio
import contextlib
import inspect
import sqlite3
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from server.accounts.database import HEAD, METADATA, DatabaseError, open_database
from server.accounts.keys import KeyRing
from server.accounts.service import AccountService
from server.settings import Settings


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Another program keeps SQLite's write lock."""
    file = settings.data_dir / "accounts.sqlite3"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_migrations_give_the_tables_that_the_code_uses(database_settings: Settings) -> None:
    engine = open_database(database_settings)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == HEAD
    engine.dispose()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    folder = Path(inspect.getfile(AccountService)).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_servers_that_start_at_once_migrate_once(database_settings: Settings) -> None:
    with ThreadPoolExecutor(4) as threads:
        engines = list(threads.map(open_database, [database_settings] * 4))
        keys = list(threads.map(lambda engine: KeyRing(engine).create_first(), engines))
    for engine in engines:
        engine.dispose()
    assert sum(key is not None for key in keys) == 1


def test_a_newer_database_is_refused(database_settings: Settings) -> None:
    engine = open_database(database_settings)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(DatabaseError, match="newer"):
        open_database(database_settings)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:////no/such/folder/a.sqlite3", "unable to open database file"),
        ("postgresql+psycopg://u:geheim@127.0.0.1:1/d", "refused"),
        ("postgresql+nonsense://h/d", "nonsense"),
    ],
)
def test_a_database_out_of_reach_is_one_sentence(tmp_path: Path, url: str, sentence: str) -> None:
    if "psycopg" in url:
        pytest.importorskip("psycopg")
    with pytest.raises(DatabaseError, match=sentence) as error:
        open_database(Settings(data_dir=tmp_path, database_url=url))
    assert "geheim" not in str(error.value)


def test_a_file_that_is_no_database_is_refused(sqlite_settings: Settings) -> None:
    (sqlite_settings.make_data_dir() / "accounts.sqlite3").write_bytes(b"not a database" * 99)
    with pytest.raises(DatabaseError, match="not a database"):
        open_database(sqlite_settings)


def test_no_file_holds_a_key_and_none_is_for_others_to_read(sqlite_settings: Settings) -> None:
    accounts = AccountService.open(sqlite_settings)
    with contextlib.closing(accounts):
        key = accounts.create_first_key()
        assert key is not None
        for file in sqlite_settings.data_dir.iterdir():
            assert key[3:].encode() not in file.read_bytes()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_while_the_database_waits_the_server_goes_on(sqlite_settings: Settings) -> None:
    """Reads are answered, the loop turns, and a call cancelled meanwhile leaves no hold."""
    accounts = AccountService.open(sqlite_settings)

    async def scene() -> Decimal:
        ring = KeyRing(accounts._engine)
        key = ring.create_account("a", Decimal(1))
        account = await accounts.authenticate(key)

        async def call() -> None:
            async with accounts.hold(account, Decimal(1)):
                raise AssertionError("the call was cancelled before it could start")

        with locked(sqlite_settings):
            task = asyncio.create_task(call())
            started = time.monotonic()
            await asyncio.sleep(0.1)
            assert await accounts.authenticate(key) == account
            assert await accounts.balance(account) == 1
            assert time.monotonic() - started < 3
            task.cancel()
            await asyncio.sleep(0.1)
        with pytest.raises(asyncio.CancelledError):
            await task
        async with accounts.hold(account, Decimal(1)) as hold:
            hold.settle()
        return await accounts.balance(account)

    with contextlib.closing(accounts):
        assert asyncio.run(scene()) == 0
