"""Balances and holds, exact and never negative. Blocking, thread-safe, one transaction each."""

import logging
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    case,
    delete,
    insert,
    or_,
    select,
    true,
    update,
)

from server.database import ACCOUNTS, HOLDS, LEDGER, MAX_UNITS
from server.errors import NotEnoughCredits, OperatorError

UNITS_PER_CREDIT: Final = 10**10
_logger = logging.getLogger(__name__)


class AccountsError(OperatorError):
    """What was asked of an account or a key cannot be done."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a key belongs to."""

    id: int
    unlimited: bool


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """An account as an operator sees it. Running calls have set `held` of `balance` aside."""

    id: int
    name: str
    unlimited: bool
    balance: Decimal
    held: Decimal


def to_units(amount: Decimal) -> int:
    """Credits as an integer of 10⁻¹⁰ credit, exactly.

    Raises:
        AccountsError: not finite, below 0, above 900 million, or finer than 10⁻¹⁰.
    """
    if not amount.is_finite() or not 0 <= amount <= MAX_UNITS // UNITS_PER_CREDIT:
        raise AccountsError(f"Credits should be between 0 and 900000000, got {amount}.")
    units = amount * UNITS_PER_CREDIT
    if units != int(units):
        raise AccountsError(f"Credits have at most 10 decimal places, got {amount}.")
    return int(units)


def to_credits(units: int) -> Decimal:
    """Credits, with no more decimal places than they need."""
    whole, fraction = divmod(units, UNITS_PER_CREDIT)
    digits = f"{fraction:010d}".rstrip("0")
    return Decimal(f"{whole}.{digits}" if digits else whole)


def now_s() -> int:
    """The time as the tables keep it: whole Unix seconds."""
    return int(time.time())


def book(connection: Connection, account_id: int, units: int, reason: str) -> None:
    """Note that a balance has changed by `units`."""
    if units:
        row = {"account_id": account_id, "units": units, "reason": reason, "created_s": now_s()}
        connection.execute(insert(LEDGER).values(row))


class Ledger:
    """The balances and holds of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(read_only=True)

    def accounts(self) -> list[AccountInfo]:
        """All accounts, oldest first."""
        with self._reader.begin() as connection:
            return _infos(connection, true())

    def add(self, account_id: int, amount: Decimal) -> AccountInfo:
        """Give an account more credits; how it stands then.

        Raises:
            AccountsError: it does not exist, is unlimited, or would pass 900 million.
        """
        units = to_units(amount)
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(ACCOUNTS)
                .where(
                    ACCOUNTS.c.id == account_id,
                    ACCOUNTS.c.unlimited.is_(False),
                    ACCOUNTS.c.balance_units <= MAX_UNITS - units,
                )
                .values(balance_units=ACCOUNTS.c.balance_units + units)
            )
            infos = _infos(connection, ACCOUNTS.c.id == account_id)
            if not infos:
                raise AccountsError(f"There is no account {account_id}.")
            if infos[0].unlimited:
                raise AccountsError(f"Account {account_id} is unlimited: it needs no credits.")
            if not changed.rowcount:
                raise AccountsError(f"Account {account_id} would pass 900000000 credits.")
            book(connection, account_id, units, "added")
        return infos[0]

    def balance(self, account: Account) -> Decimal:
        """Credits left, with those that running calls have set aside."""
        query = select(ACCOUNTS.c.balance_units).where(ACCOUNTS.c.id == account.id)
        with self._reader.begin() as connection:
            return to_credits(connection.scalars(query).one())

    def place_hold(
        self, hold_id: str, account: Account, amount: Decimal, lifetime_s: float
    ) -> None:
        """Set `amount` aside under a new id; after `lifetime_s` it may be given back.

        Raises:
            NotEnoughCredits: too little is left that is not set aside; nothing was changed.
        """
        units = to_units(amount)
        with self._engine.begin() as connection:
            if not _set_aside(connection, account.id, units):
                # A server that died may still have this account's credits in hand.
                expired = HOLDS.c.expires_s <= now_s()
                _release(connection, (HOLDS.c.account_id == account.id) & expired)
                if not _set_aside(connection, account.id, units):
                    raise NotEnoughCredits
            row = {
                "id": hold_id,
                "account_id": account.id,
                "units": units,
                "expires_s": now_s() + int(lifetime_s),
            }
            connection.execute(insert(HOLDS).values(row))

    def settle_hold(self, hold_id: str) -> None:
        """Take what was set aside. A hold that has expired meanwhile is not charged."""
        with self._engine.begin() as connection:
            query = delete(HOLDS).where(HOLDS.c.id == hold_id)
            row = connection.execute(query.returning(HOLDS.c.account_id, HOLDS.c.units)).first()
            if row is None:
                _logger.warning("a call outlived its hold of credits and was not charged")
                return
            taken = case((ACCOUNTS.c.unlimited, 0), else_=row.units)
            connection.execute(
                update(ACCOUNTS)
                .where(ACCOUNTS.c.id == row.account_id)
                .values(
                    balance_units=ACCOUNTS.c.balance_units - taken,
                    held_units=ACCOUNTS.c.held_units - row.units,
                )
            )
            book(connection, row.account_id, -row.units, "call")

    def release_hold(self, hold_id: str) -> None:
        """Give back what was set aside, if there is such a hold."""
        with self._engine.begin() as connection:
            _release(connection, HOLDS.c.id == hold_id)

    def release_leftovers(self, *, only_expired: bool) -> int:
        """Give back what servers that died had set aside; how many holds those were.

        With `only_expired` False every hold counts as one: no server may be running then.
        """
        with self._engine.begin() as connection:
            return _release(connection, HOLDS.c.expires_s <= now_s() if only_expired else true())


def _infos(connection: Connection, condition: ColumnElement[bool]) -> list[AccountInfo]:
    query = select(
        ACCOUNTS.c.id,
        ACCOUNTS.c.name,
        ACCOUNTS.c.unlimited,
        ACCOUNTS.c.balance_units,
        ACCOUNTS.c.held_units,
    )
    return [
        AccountInfo(row_id, name, unlimited, to_credits(balance), to_credits(held))
        for row_id, name, unlimited, balance, held in connection.execute(
            query.where(condition).order_by(ACCOUNTS.c.id)
        )
    ]


def _set_aside(connection: Connection, account_id: int, units: int) -> bool:
    covered = ACCOUNTS.c.balance_units - ACCOUNTS.c.held_units >= units
    changed = connection.execute(
        update(ACCOUNTS)
        .where(ACCOUNTS.c.id == account_id, or_(ACCOUNTS.c.unlimited, covered))
        .values(held_units=ACCOUNTS.c.held_units + units)
    )
    return changed.rowcount == 1


def _release(connection: Connection, condition: ColumnElement[bool]) -> int:
    query = delete(HOLDS).where(condition).returning(HOLDS.c.account_id, HOLDS.c.units)
    rows = connection.execute(query).all()
    for account_id, units in rows:
        connection.execute(
            update(ACCOUNTS)
            .where(ACCOUNTS.c.id == account_id)
            .values(held_units=ACCOUNTS.c.held_units - units)
        )
    return len(rows)
