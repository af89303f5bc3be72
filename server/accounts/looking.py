"""The database as it is, for those who only look at it."""

import contextlib
from collections.abc import Iterator

from sqlalchemy import URL, Engine, make_url

from server.accounts.connecting import create_engine_of
from server.accounts.database import HEAD, DatabaseError, file_of, opening_errors, version_of
from server.settings import Settings


@contextlib.contextmanager
def as_it_is(settings: Settings) -> Iterator[Engine | None]:
    """The database for the block, neither made nor brought up to date; None: it has no tables yet.

    Raises:
        DatabaseError: it cannot be reached or, in the block too, read; or a newer face-detailer
            made it.
    """
    file = file_of(settings)
    with opening_errors():
        if settings.database_url is None and not (file.exists() and file.stat().st_size):
            yield None
            return
        address = make_url(settings.database_url or URL.create("sqlite", database=str(file)))
        engine = create_engine_of(address)
        try:
            with engine.execution_options(read_only=True).begin() as connection:
                version = version_of(connection)
            if version is not None and version > HEAD:
                raise DatabaseError(f"The database is a newer face-detailer's: {version}")
            yield None if version is None else engine
        finally:
            engine.dispose()
