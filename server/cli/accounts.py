"""What the commands `keys` and `credits` share."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from server.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy import Engine

# Digits; ids have 64 bits.
_LONGEST_ID = 19


@contextlib.contextmanager
def database() -> "Iterator[Engine]":
    """The accounts' database as the settings say, open for the block.

    Raises:
        DatabaseError: it cannot be reached, opened or upgraded, or fails in the block.
    """
    from server.accounts.database import open_database
    from server.settings import read_settings

    engine = open_database(read_settings())
    try:
        with database_errors():
            yield engine
    finally:
        engine.dispose()


@contextlib.contextmanager
def database_errors() -> "Iterator[None]":
    """Faults of the database's storage as one sentence for the operator.

    Raises:
        DatabaseError: there was one.
    """
    from server.accounts.database import DatabaseError
    from server.accounts.faults import storage_faults
    from server.errors import StorageAway

    try:
        with storage_faults():
            yield
    except StorageAway as error:
        why = " ".join(str(getattr(error.__cause__, "orig", error.__cause__)).split())
        raise DatabaseError(f"The database cannot be read or written: {why}") from error


def parse_amount(text: str) -> "Decimal":
    """Credits from the command line.

    Raises:
        OperatorError: the text is not a number.
    """
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text)
    except InvalidOperation:
        raise UsageError(f"Credits should be a number, got {text}.") from None


def parse_account_id(text: str) -> int | None:
    """An account's number from the command line; None: the text is no number.

    Raises:
        OperatorError: no account can have this number.
    """
    if not text.isdecimal():
        return None
    if len(text) > _LONGEST_ID:
        raise OperatorError(f"There is no account {text}.")
    return int(text)
