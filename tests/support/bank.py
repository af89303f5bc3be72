"""One opened database and all that works on it, for the tests of keys and credits."""

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any, TypeVar

from server.accounting import Account
from server.accounts.database import open_database
from server.accounts.keys import KeyRing
from server.accounts.ledger import AccountInfo, Ledger
from server.accounts.service import AccountService
from server.settings import Settings

T = TypeVar("T")
UNIT = Decimal("0.0000000001")


class Bank:
    """One opened database and all that works on it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = open_database(settings)
        self.keys = KeyRing(self.engine)
        self.ledger = Ledger(self.engine)
        self.accounts = AccountService(self.engine, settings)

    def account(self, balance: str | None) -> Account:
        amount = None if balance is None else Decimal(balance)
        return self.keys.authenticate(self.keys.create_account("someone", amount))

    def info(self, account: Account) -> AccountInfo:
        return next(info for info in self.ledger.accounts() if info.id == account.id)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
