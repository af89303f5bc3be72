"""The tables of accounts and credits, and how their database is opened. SQLite or PostgreSQL."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

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
    Text,
    TypedColumns,
    UniqueConstraint,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from server.accounts.connecting import create_engine_of
from server.errors import OperatorError
from server.setting_values import MOST_CREDITS
from server.settings import Settings
from server.types import JobState

# The largest sum that fits a signed 64-bit integer of 10⁻¹⁰ credits, rounded down to whole credits.
MAX_UNITS = MOST_CREDITS * 10**10
# Any number that no other program on the same PostgreSQL server is likely to lock.
_ADVISORY_LOCK = 7_236_391_824
_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "alembic_version"
HEAD = "0005"
"""The newest version in `server/accounts/migrations/versions`."""


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
    webhook_url: Named[str | None] = Column(String(2000))
    webhook_secret: Named[str | None] = Column(String(100))


class _HoldColumns(TypedColumns):
    id: Named[str] = Column(String(32), primary_key=True)
    account_id: Named[int] = Column(ForeignKey("accounts.id"), index=True)
    units: Named[int] = Column(BigInteger)
    lease_id: Named[str | None] = Column(String(32), index=True)


class _LeaseColumns(TypedColumns):
    id: Named[str] = Column(String(32), primary_key=True)
    store: Named[str] = Column(String(64), index=True)
    beat_ms: Named[int] = Column(BigInteger)


class _LedgerColumns(TypedColumns):
    id: Named[int] = Column(primary_key=True)
    account_id: Named[int] = Column(ForeignKey("accounts.id"), index=True)
    units: Named[int] = Column(BigInteger)
    reason: Named[str] = Column(String(200))
    created_s: Named[int] = Column(BigInteger)


class _JobColumns(TypedColumns):
    id: Named[str] = Column(String(32), primary_key=True)
    account_id: Named[int] = Column(ForeignKey("accounts.id"), index=True)
    key_id: Named[int] = Column(ForeignKey("api_keys.id"))
    state: Named[str] = Column(String(10), index=True)
    store: Named[str] = Column(String(64))
    request: Named[str] = Column(Text)
    idempotency_key: Named[str | None] = Column(String(255))
    fingerprint: Named[str | None] = Column(String(64))
    created_ms: Named[int] = Column(BigInteger)
    started_ms: Named[int | None] = Column(BigInteger)
    finished_ms: Named[int | None] = Column(BigInteger)
    owner: Named[str | None] = Column(String(64))
    attempts: Named[int]
    cancelled: Named[bool]
    error: Named[str | None] = Column(Text)
    error_status: Named[int | None]
    result: Named[str | None] = Column(Text)
    webhook_url: Named[str | None] = Column(String(2000))
    webhook_due_ms: Named[int | None] = Column(BigInteger, index=True)
    webhook_tries: Named[int]


class _RateColumns(TypedColumns):
    account_id: Named[int] = Column(ForeignKey("accounts.id"), primary_key=True)
    span_s: Named[int] = Column(primary_key=True)
    begun_ms: Named[int] = Column(BigInteger)
    calls: Named[int] = Column(BigInteger)


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
"""API keys: SHA-256 and first characters, never the key itself. `webhook_secret` signs what is sent
to webhooks, so it has to be readable.
"""

HOLDS = Table("holds", METADATA, _HoldColumns)
"""What each running call has set aside; a row goes as soon as it is settled or released. It belongs
to the server under `lease_id`, or, where that is null, to the stored job of the same id.
"""

LEASES = Table("leases", METADATA, _LeaseColumns)
"""The servers on this database. One whose `beat_ms`, by the database's clock, is too long ago has
died. `store`: of its jobs' files.
"""

LEDGER = Table("ledger", METADATA, _LedgerColumns)
"""Every change of a balance, for ever: grants above 0, calls below."""

RATES = Table("rates", METADATA, _RateColumns)
"""How many calls an account has made in the minute or day (`span_s`) that began at `begun_ms`, by
the database's clock.
"""

OPEN_STATES = tuple(state for state in JobState if state.is_open)

JOBS = Table(
    "jobs",
    METADATA,
    _JobColumns,
    UniqueConstraint("account_id", "idempotency_key", name="uq_jobs_idempotency_key"),
)
"""Requests that were accepted before their work; `id` is also that of their hold. `store` names the
folder their files lie in; `owner` the lease of the server that works on one. A webhook is owed for
an ended one that has a `webhook_due_ms`.
"""


@contextlib.contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other `exclusive` one of any process overlaps."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Another server's migration may take its time.
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield connection


def open_database(settings: Settings) -> Engine:
    """The database of `settings`, its tables brought up to date.

    Raises:
        DatabaseError: it cannot be reached, opened or upgraded.
    """
    with opening_errors():
        engine = create_engine_of(_address(settings))
        try:
            with exclusive(engine) as connection:
                _upgrade(connection)
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextlib.contextmanager
def opening_errors() -> Iterator[None]:
    """What goes wrong in the block as a `DatabaseError`, a sentence for the operator."""
    try:
        yield
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseError(f"The database address cannot be used: {error}") from error
    except DBAPIError as error:
        # Drivers write several lines.
        why = " ".join(str(error.orig).split())
        raise DatabaseError(f"The database cannot be opened: {why}") from error
    except sqlite3.Error as error:
        raise DatabaseError(f"The database cannot be opened: {error}") from error
    except OSError as error:
        raise DatabaseError(f"The data folder cannot be used: {error}") from error


def file_of(settings: Settings) -> Path:
    """Where SQLite's database lies, or will."""
    return settings.data_dir / "accounts.sqlite3"


def _address(settings: Settings) -> URL:
    if settings.database_url is not None:
        return make_url(settings.database_url)
    # Created here, since SQLite would let every user of the machine read the file.
    settings.make_data_dir()
    file = file_of(settings)
    file.touch(mode=0o600)
    return URL.create("sqlite", database=str(file))


def version_of(connection: Connection) -> str | None:
    """Of the tables; None: there are none yet."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    query = text(f"SELECT version_num FROM {_VERSION_TABLE}")  # noqa: S608
    version: str | None = connection.scalar(query)
    return version


def _upgrade(connection: Connection) -> None:
    if version_of(connection) == HEAD:
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
