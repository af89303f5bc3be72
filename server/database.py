"""The tables of accounts and credits, and how their database is opened. SQLite or PostgreSQL."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tenacity
from sqlalchemy import (
    URL,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    MetaData,
    Named,
    String,
    Table,
    TypedColumns,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from server.errors import OperatorError
from server.settings import Settings

# The largest sum that fits a signed 64-bit integer of 10⁻¹⁰ credits, rounded down to whole credits.
MAX_UNITS = 900_000_000 * 10**10
_BUSY_TIMEOUT_S = 10
# Any number that no other program on the same PostgreSQL server is likely to lock.
_ADVISORY_LOCK = 7_236_391_824
_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "alembic_version"
HEAD = "0001"
"""The newest version in `server/migrations/versions`."""


class DatabaseError(OperatorError):
    """The database cannot be opened or brought up to date."""


METADATA = MetaData(
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables. Sums (`…_units`) are integers of 10⁻¹⁰ credit; times (`…_s`) are Unix seconds."""


class _AccountColumns(TypedColumns):
    id: Named[int] = Column(primary_key=True)
    name: Named[str] = Column(String(200))
    unlimited: Named[bool]
    balance_units: Named[int] = Column(BigInteger)
    held_units: Named[int] = Column(BigInteger)
    created_s: Named[int] = Column(BigInteger)


class _KeyColumns(TypedColumns):
    id: Named[int] = Column(primary_key=True)
    account_id: Named[int] = Column(ForeignKey("accounts.id"), index=True)
    name: Named[str] = Column(String(200))
    prefix: Named[str] = Column(String(16), index=True)
    sha256: Named[str] = Column(String(64))
    revoked: Named[bool]
    created_s: Named[int] = Column(BigInteger)


class _HoldColumns(TypedColumns):
    id: Named[str] = Column(String(32), primary_key=True)
    account_id: Named[int] = Column(ForeignKey("accounts.id"), index=True)
    units: Named[int] = Column(BigInteger)
    expires_s: Named[int] = Column(BigInteger)


class _LedgerColumns(TypedColumns):
    id: Named[int] = Column(primary_key=True)
    account_id: Named[int] = Column(ForeignKey("accounts.id"), index=True)
    units: Named[int] = Column(BigInteger)
    reason: Named[str] = Column(String(200))
    created_s: Named[int] = Column(BigInteger)


ACCOUNTS = Table(
    "accounts",
    METADATA,
    _AccountColumns,
    CheckConstraint("held_units >= 0", name="held"),
    CheckConstraint("unlimited OR held_units <= balance_units", name="covered"),
    CheckConstraint(f"balance_units BETWEEN 0 AND {MAX_UNITS}", name="balance"),
)
"""Who pays. `held_units` is the part of `balance_units` that running calls have set aside."""

KEYS = Table("api_keys", METADATA, _KeyColumns)
"""API keys: SHA-256 and first characters, never the key itself."""

HOLDS = Table("holds", METADATA, _HoldColumns)
"""What each running call has set aside; a row goes as soon as it is settled or released."""

LEDGER = Table("ledger", METADATA, _LedgerColumns)
"""Every change of a balance, for ever: grants above 0, calls below."""


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_busy),
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(_BUSY_TIMEOUT_S),
    reraise=True,
)
def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Of servers that do so at once on a new file, SQLite tells all but one that it
    is locked, whatever the timeout.
    """
    connection.execute("PRAGMA journal_mode=WAL")


def _configure_sqlite(engine: Engine) -> None:
    """WAL, and transactions that take the write lock at once.

    One that reads first and writes later can otherwise fail with "database is locked", whatever the
    timeout.
    """

    @event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, _: ConnectionPoolEntry) -> None:
        dbapi_connection.isolation_level = None
        _write_ahead(dbapi_connection)
        dbapi_connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextlib.contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other `exclusive` one of any process overlaps."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield connection


def open_database(settings: Settings) -> Engine:
    """The database of `settings`, its tables brought up to date.

    Raises:
        DatabaseError: it cannot be reached, opened or upgraded.
    """
    try:
        engine = _create_engine(_address(settings))
        try:
            with exclusive(engine) as connection:
                _upgrade(connection)
        except BaseException:
            engine.dispose()
            raise
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseError(f"The database address cannot be used: {error}") from error
    except DBAPIError as error:
        raise DatabaseError(f"The database cannot be opened: {error.orig}") from error
    except OSError as error:
        raise DatabaseError(f"The data folder cannot be used: {error}") from error
    return engine


def _address(settings: Settings) -> URL:
    if settings.database_url is not None:
        return make_url(settings.database_url)
    # Created here, since SQLite would let every user of the machine read the file.
    file = settings.make_data_dir() / "accounts.sqlite3"
    file.touch(mode=0o600)
    return URL.create("sqlite", database=str(file))


def _create_engine(address: URL) -> Engine:
    if address.get_backend_name() != "sqlite":
        return create_engine(address, pool_pre_ping=True)
    engine = create_engine(address, connect_args={"timeout": _BUSY_TIMEOUT_S})
    _configure_sqlite(engine)
    return engine


def _upgrade(connection: Connection) -> None:
    if inspect(connection).has_table(_VERSION_TABLE):
        version = connection.scalar(text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608
        if version == HEAD:
            return
    # Imported where it is needed, since it would take a third of the server's start.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise DatabaseError(f"The database is a newer face-detailer's: {error}") from error
