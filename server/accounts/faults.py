"""Faults of the database's storage (locked, full, out of reach), told apart from mistakes."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from server.errors import StorageAway, StorageFull

# SQLite's primary result codes: https://www.sqlite.org/rescode.html
_SQLITE_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES_DISK_FULL: Final = "53100"
# A server that was a primary until now, or one that is not yet.
_POSTGRES_READ_ONLY: Final = "25006"


@contextlib.contextmanager
def storage_faults() -> Iterator[None]:
    """Name them; everything else passes as it is.

    Raises:
        StorageAway: the database could not be read or written. Whether a change that was being
            committed was kept is unknown.
        StorageFull: the same, because no room is left.
    """
    try:
        yield
    except Exception as error:
        fault = _fault_of(error)
        if fault is None:
            raise
        raise fault from error


def _fault_of(error: Exception) -> StorageAway | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return StorageFull()
        return StorageAway() if code in _SQLITE_AWAY else None
    if getattr(cause, "sqlstate", None) == _POSTGRES_DISK_FULL:
        return StorageFull()
    if getattr(cause, "sqlstate", None) == _POSTGRES_READ_ONLY:
        return StorageAway()
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    away = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
    return StorageAway() if lost or away else None
