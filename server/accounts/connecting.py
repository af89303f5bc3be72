"""How connections to the accounts' database are made: SQLite or PostgreSQL."""

import sqlite3
from typing import Any, Final

import tenacity
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

# As long as calls wait for their storage at all: `server.accounts.threads`.
_LOCK_TIMEOUT_S: Final = 5


def create_engine_of(address: URL) -> Engine:
    """An engine whose connections wait for a lock, or a host, for some seconds at most."""
    if address.get_backend_name() != "sqlite":
        engine = create_engine(address, pool_pre_ping=True, connect_args=_patience(address))
        if address.get_backend_name() == "postgresql":
            _configure_postgres(engine)
        return engine
    engine = create_engine(address, connect_args={"timeout": _LOCK_TIMEOUT_S})
    _configure_sqlite(engine)
    return engine


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_busy),
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(_LOCK_TIMEOUT_S),
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


def _configure_postgres(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, _: ConnectionPoolEntry) -> None:
        with dbapi_connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'")
        dbapi_connection.commit()


def _patience(address: URL) -> dict[str, int]:
    """How long a host that does not answer is waited for, unless the address says so itself:
    libpq's parameters, without which a host that vanished is waited for a quarter of an hour.
    """
    if address.get_backend_name() != "postgresql":
        return {}
    patience = {
        "connect_timeout": _LOCK_TIMEOUT_S,
        "keepalives_idle": _LOCK_TIMEOUT_S,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 2 * _LOCK_TIMEOUT_S * 1000,
    }
    return {name: value for name, value in patience.items() if name not in address.query}
