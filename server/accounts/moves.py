"""Tells of credits that have changed their place, once the transaction that did so is committed."""

from collections.abc import Callable
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, ExceptionContext, event
from sqlalchemy.pool import ConnectionPoolEntry

Move = Literal["held", "charged", "refunded"]
_NOTES: Final = "moves of credits"
_COMMITTED: Final = "committed moves of credits"


def note(connection: Connection, move: Move, units: int) -> None:
    """A transaction moves so many units."""
    connection.info.setdefault(_NOTES, []).append((move, units))


def listen(engine: Engine, on_move: Callable[[Move, int], None]) -> None:
    """Call `on_move` with each move, and its units, of every transaction that is committed.

    One whose commit failed does not count: whoever does it again would count it twice.
    """

    @event.listens_for(engine, "commit")
    def _commit(connection: Connection) -> None:
        # The database is asked after this.
        connection.info[_COMMITTED] = connection.info.pop(_NOTES, ())

    @event.listens_for(engine, "handle_error")
    def _failed(context: ExceptionContext) -> None:
        if context.connection is not None and not context.connection.invalidated:
            context.connection.info.pop(_COMMITTED, None)

    @event.listens_for(engine, "rollback")
    def _rolled_back(connection: Connection) -> None:
        connection.info.pop(_NOTES, None)

    @event.listens_for(engine, "checkin")
    def _given_back(_: Any, entry: ConnectionPoolEntry) -> None:
        for move, units in entry.info.pop(_COMMITTED, ()):
            on_move(move, units)
