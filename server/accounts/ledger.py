"""Balances and holds, exact and never negative. Blocking, thread-safe, one transaction each."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from sqlalchemy import ColumnElement, Connection, Engine, select, true, update

from server.accounting import Account
from server.accounts import holds
from server.accounts.database import ACCOUNTS, HOLDS, MAX_UNITS
from server.errors import OperatorError, UsageError

UNITS_PER_CREDIT: Final = 10**10


class AccountsError(OperatorError):
    """What was asked of an account or a key cannot be done."""


class ImpossibleValue(AccountsError, UsageError):
    """No account or key can have this value."""


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
        raise ImpossibleValue(f"Credits should be between 0 and 900000000, got {amount}.")
    units = amount * UNITS_PER_CREDIT
    if units != int(units):
        raise ImpossibleValue(f"Credits have at most 10 decimal places, got {amount}.")
    return int(units)


def to_credits(units: int) -> Decimal:
    """Credits, with no more decimal places than they need."""
    whole, fraction = divmod(units, UNITS_PER_CREDIT)
    digits = f"{fraction:010d}".rstrip("0")
    return Decimal(f"{whole}.{digits}" if digits else whole)


def check_account_id(account_id: int) -> None:
    """See that the database can be asked for an account's number, which has 64 bits.

    Raises:
        AccountsError: no account has it.
    """
    if not 0 < account_id < 2**63:
        raise AccountsError(f"There is no account {account_id}.")


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
        check_account_id(account_id)
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
            holds.book(connection, account_id, units, "added")
        return infos[0]

    def balance(self, account: Account) -> Decimal:
        """Credits left, with those that running calls have set aside."""
        with self._reader.begin() as connection:
            return _balance(connection, account.id)

    def place_hold(self, hold_id: str, account: Account, amount: Decimal, lease_id: str) -> Decimal:
        """Set `amount` aside under a new id, in the hand of a server; credits left, with those that
        are set aside.

        Raises:
            NotEnoughCredits: too little is left that is not set aside; nothing was changed.
        """
        units = to_units(amount)
        with self._engine.begin() as connection:
            holds.place(connection, hold_id, account.id, units, lease_id)
            return _balance(connection, account.id)

    def settle_hold(self, hold_id: str, account_id: int, charge: Decimal | None = None) -> Decimal:
        """Take what was set aside, or `charge` of it; credits left. A hold that is gone is not
        charged.
        """
        units = None if charge is None else to_units(charge)
        with self._engine.begin() as connection:
            holds.settle(connection, hold_id, "call", units)
            return _balance(connection, account_id)

    def release_hold(self, hold_id: str) -> None:
        """Give back what was set aside, if there is such a hold."""
        with self._engine.begin() as connection:
            holds.release(connection, HOLDS.c.id == hold_id)


def _balance(connection: Connection, account_id: int) -> Decimal:
    query = select(ACCOUNTS.c.balance_units).where(ACCOUNTS.c.id == account_id)
    return to_credits(connection.scalars(query).one())


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
