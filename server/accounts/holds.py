"""Credits set aside, inside a transaction of the caller's."""

import time

from sqlalchemy import ColumnElement, Connection, case, delete, insert, or_, select, update

from server.accounts.database import ACCOUNTS, HOLDS, LEDGER
from server.accounts.moves import note
from server.errors import NotEnoughCredits


def now_s() -> int:
    """The time as the tables keep it: whole Unix seconds."""
    return int(time.time())


def book(connection: Connection, account_id: int, units: int, reason: str) -> None:
    """Note that a balance has changed by `units`."""
    if units:
        row = {"account_id": account_id, "units": units, "reason": reason, "created_s": now_s()}
        connection.execute(insert(LEDGER).values(row))


def place(
    connection: Connection, hold_id: str, account_id: int, units: int, lease_id: str | None
) -> None:
    """Set `units` aside under a new id; under one that is there, nothing happens.

    `lease_id`: the server that has it in hand; None: the stored job with the hold's id has.

    Raises:
        NotEnoughCredits: too little is left that is not set aside.
    """
    if connection.scalar(select(HOLDS.c.id).where(HOLDS.c.id == hold_id)) is not None:
        return
    covered = ACCOUNTS.c.balance_units - ACCOUNTS.c.held_units >= units
    changed = connection.execute(
        update(ACCOUNTS)
        .where(ACCOUNTS.c.id == account_id, or_(ACCOUNTS.c.unlimited, covered))
        .values(held_units=ACCOUNTS.c.held_units + units)
    )
    if not changed.rowcount:
        raise NotEnoughCredits
    row = {"id": hold_id, "account_id": account_id, "units": units, "lease_id": lease_id}
    connection.execute(insert(HOLDS).values(row))
    note(connection, "held", units)


def settle(
    connection: Connection, hold_id: str, reason: str, charge_units: int | None = None
) -> bool:
    """Take what was set aside, or `charge_units` of it, and give back the rest; whether there was
    such a hold.
    """
    query = delete(HOLDS).where(HOLDS.c.id == hold_id)
    row = connection.execute(query.returning(HOLDS.c.account_id, HOLDS.c.units)).first()
    if row is None:
        return False
    charged = row.units if charge_units is None else min(charge_units, row.units)
    taken = case((ACCOUNTS.c.unlimited, 0), else_=charged)
    connection.execute(
        update(ACCOUNTS)
        .where(ACCOUNTS.c.id == row.account_id)
        .values(
            balance_units=ACCOUNTS.c.balance_units - taken,
            held_units=ACCOUNTS.c.held_units - row.units,
        )
    )
    book(connection, row.account_id, -charged, reason)
    note(connection, "charged", charged)
    note(connection, "refunded", row.units - charged)
    return True


def release(connection: Connection, condition: ColumnElement[bool]) -> int:
    """Give back every hold that meets the condition; how many those were."""
    query = delete(HOLDS).where(condition).returning(HOLDS.c.account_id, HOLDS.c.units)
    rows = connection.execute(query).all()
    for account_id, units in rows:
        connection.execute(
            update(ACCOUNTS)
            .where(ACCOUNTS.c.id == account_id)
            .values(held_units=ACCOUNTS.c.held_units - units)
        )
        note(connection, "refunded", units)
    return len(rows)
