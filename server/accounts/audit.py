"""Checks that the accounts' books agree with themselves: a sentence for each deviation."""

from sqlalchemy import Connection, Engine, Table, func, select

from server.accounts.database import ACCOUNTS, HOLDS, JOBS, LEDGER, OPEN_STATES
from server.accounts.ledger import to_credits


def audit(engine: Engine) -> tuple[int, list[str]]:
    """How many accounts there are, and a sentence for each deviation.

    It is one transaction: calls that run meanwhile are either all in or all out.
    """
    reader = engine.execution_options(read_only=True)
    if engine.dialect.name == "postgresql":
        reader = reader.execution_options(isolation_level="REPEATABLE READ")
    with reader.begin() as connection:
        accounts, deviations = _audit_sums(connection)
        return accounts, deviations + _audit_jobs(connection)


def _audit_sums(connection: Connection) -> tuple[int, list[str]]:
    """Balances against entries, sums set aside against holds."""
    entries, holds = _sums(connection, LEDGER), _sums(connection, HOLDS)
    query = select(
        ACCOUNTS.c.id, ACCOUNTS.c.unlimited, ACCOUNTS.c.balance_units, ACCOUNTS.c.held_units
    ).order_by(ACCOUNTS.c.id)
    rows = connection.execute(query).all()
    deviations: list[str] = []
    for account_id, unlimited, balance, held in rows:
        # An unlimited account's entries say what its calls would have cost.
        booked = 0 if unlimited else entries.get(account_id, 0)
        if balance != booked:
            deviations.append(
                f"Account {account_id} has {_credits(balance)} credits, and its entries sum up to "
                f"{_credits(booked)}."
            )
        set_aside = holds.get(account_id, 0)
        if held != set_aside:
            deviations.append(
                f"Account {account_id} has {_credits(held)} credits set aside, and its calls hold "
                f"{_credits(set_aside)}."
            )
    return len(rows), deviations


def _sums(connection: Connection, table: Table) -> dict[int, int]:
    """The units of a table's rows by account."""
    query = select(table.c.account_id, func.sum(table.c.units)).group_by(table.c.account_id)
    # PostgreSQL's sums are decimal numbers.
    return {account_id: int(units) for account_id, units in connection.execute(query)}


def _audit_jobs(connection: Connection) -> list[str]:
    """Holds against the queue's requests."""
    is_open = JOBS.c.state.in_(OPEN_STATES)
    lacking = select(JOBS.c.id, JOBS.c.account_id).where(
        is_open, JOBS.c.id.not_in(select(HOLDS.c.id))
    )
    lost = select(HOLDS.c.id, HOLDS.c.account_id).where(
        HOLDS.c.lease_id.is_(None), HOLDS.c.id.not_in(select(JOBS.c.id).where(is_open))
    )
    return [
        *(
            f"Request {job_id} of account {account_id} is open, and nothing is set aside for it."
            for job_id, account_id in connection.execute(lacking)
        ),
        *(
            f"Request {job_id} of account {account_id} has ended, and credits are still set aside "
            "for it."
            for job_id, account_id in connection.execute(lost)
        ),
    ]


def _credits(units: int) -> str:
    text = f"{to_credits(abs(units)):f}"
    return f"-{text}" if units < 0 else text
