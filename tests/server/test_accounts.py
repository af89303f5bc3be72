"""Keys and credits, on real databases of both kinds."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from accounts_fixtures import database_settings, postgres  # noqa: F401

from server.accounts import Account, Accounts
from server.database import open_database
from server.errors import BadKey, NotEnoughCredits
from server.keys import KeyRing
from server.ledger import AccountInfo, AccountsError, Ledger
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
        self.accounts = Accounts(self.engine, settings)

    def account(self, balance: str | None) -> Account:
        amount = None if balance is None else Decimal(balance)
        return self.keys.authenticate(self.keys.create_account("someone", amount))

    def info(self, account: Account) -> AccountInfo:
        return next(info for info in self.ledger.accounts() if info.id == account.id)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture
def bank(database_settings: Settings) -> Iterator[Bank]:  # noqa: F811
    bank = Bank(database_settings)
    with contextlib.closing(bank.accounts):
        yield bank


async def call(bank: Bank, account: Account, amount: str) -> None:
    async with bank.accounts.hold(account, Decimal(amount)) as hold:
        await asyncio.sleep(0.01)
        hold.settle()


# --- keys ---


def test_a_key_leads_to_its_account(bank: Bank) -> None:
    first, second = (bank.keys.create_account(name, Decimal(1)) for name in "ab")
    further = bank.keys.create_further("c", run(bank.accounts.authenticate(first)).id)
    assert run(bank.accounts.authenticate(first)) == run(bank.accounts.authenticate(further))
    assert run(bank.accounts.authenticate(first)) != run(bank.accounts.authenticate(second))


def test_wrong_keys_are_refused(bank: Bank) -> None:
    key = bank.keys.create_account("a", None)
    last = "0" if key[-1] != "0" else "1"
    for wrong in ("", "SG_", key[:-1], key + "0", key[:-1] + last, key.upper(), f" {key}", "ключ"):
        with pytest.raises(BadKey):
            run(bank.accounts.authenticate(wrong))


def test_a_revoked_key_is_refused_at_once_and_others_are_not(bank: Bank) -> None:
    key, other = (bank.keys.create_account("a", None) for _ in range(2))
    assert bank.keys.revoke(key[:11]) == key[:11]
    with pytest.raises(BadKey):
        run(bank.accounts.authenticate(key))
    assert run(bank.accounts.authenticate(other)).unlimited
    assert [info.revoked for info in bank.keys.infos()] == [True, False]


def test_a_key_named_in_full_must_match_in_full(bank: Bank) -> None:
    key = bank.keys.create_account("a", None)
    with pytest.raises(AccountsError, match="No key begins with"):
        bank.keys.revoke(key[:11] + "x")
    bank.keys.create_account("b", None)
    with pytest.raises(AccountsError, match="2 keys begin with SG_"):
        bank.keys.revoke("SG_")
    with pytest.raises(AccountsError, match="No key begins"):
        bank.keys.revoke("SG%")
    bank.keys.revoke(key)


def test_first_key_only_where_there_was_never_one(bank: Bank) -> None:
    key = bank.accounts.create_first_key()
    assert key is not None
    assert run(bank.accounts.authenticate(key)).unlimited
    bank.keys.revoke(key)
    assert bank.accounts.create_first_key() is None


# --- credits ---


def test_a_settled_call_is_charged_exactly(bank: Bank) -> None:
    account = bank.account("1")
    for _ in range(3):
        run(call(bank, account, "0.1"))
    run(call(bank, account, str(UNIT)))
    assert run(bank.accounts.balance(account)) == Decimal("0.6999999999")
    assert bank.info(account).held == 0


def test_credits_suffice_to_the_last_unit(bank: Bank) -> None:
    account = bank.account("0.3")
    with pytest.raises(NotEnoughCredits):
        run(call(bank, account, str(Decimal("0.3") + UNIT)))
    run(call(bank, account, "0.3"))
    assert run(bank.accounts.balance(account)) == 0
    with pytest.raises(NotEnoughCredits):
        run(call(bank, account, str(UNIT)))


def test_an_unsettled_or_failed_call_costs_nothing(bank: Bank) -> None:
    account = bank.account("1")

    async def unsettled() -> None:
        async with bank.accounts.hold(account, Decimal(1)):
            pass

    async def failed() -> None:
        async with bank.accounts.hold(account, Decimal(1)) as hold:
            hold.settle()
            raise ZeroDivisionError

    run(unsettled())
    with pytest.raises(ZeroDivisionError):
        run(failed())
    assert (bank.info(account).balance, bank.info(account).held) == (1, 0)


def test_running_calls_hold_their_price_but_the_balance_shows_it(bank: Bank) -> None:
    account = bank.account("1")

    async def scene() -> Decimal:
        async with bank.accounts.hold(account, Decimal("0.7")):
            with pytest.raises(NotEnoughCredits):
                await call(bank, account, "0.4")
            return await bank.accounts.balance(account)

    assert run(scene()) == 1


def test_a_cancelled_call_costs_nothing(bank: Bank) -> None:
    account = bank.account("1")

    async def scene() -> None:
        entered = asyncio.Event()

        async def long_call() -> None:
            async with bank.accounts.hold(account, Decimal(1)) as hold:
                entered.set()
                await asyncio.sleep(60)
                hold.settle()

        task = asyncio.create_task(long_call())
        await entered.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bank.info(account).held == 0

    run(scene())
    assert bank.info(account).balance == 1


@pytest.mark.parametrize("turns", range(6))
def test_a_call_cancelled_at_any_turn_leaves_no_hold(bank: Bank, turns: int) -> None:
    account = bank.account("1")

    async def scene() -> None:
        task = asyncio.create_task(call(bank, account, "0.5"))
        for _ in range(turns):
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scene())
    info = bank.info(account)
    assert info.held == 0
    assert info.balance in (1, Decimal("0.5"))


def test_many_calls_at_once_never_overdraw(bank: Bank) -> None:
    account = bank.account("0.07")
    second = Bank(bank.settings)

    async def scene() -> int:
        answered = 0
        everyone = asyncio.Event()

        def answer() -> None:
            nonlocal answered
            answered += 1
            if answered == 20:
                everyone.set()

        async def patient_call(accounts: Accounts) -> bool:
            try:
                async with accounts.hold(account, Decimal("0.01")) as hold:
                    answer()
                    await everyone.wait()
                    hold.settle()
            except NotEnoughCredits:
                answer()
                return False
            return True

        calls = [patient_call(which.accounts) for which in (bank, second) for _ in range(10)]
        return sum(await asyncio.gather(*calls))

    with contextlib.closing(second.accounts):
        assert run(scene()) == 7
    assert (bank.info(account).balance, bank.info(account).held) == (0, 0)


def test_an_unlimited_account_pays_nothing_and_shows_the_settings_number(bank: Bank) -> None:
    account = bank.account(None)
    run(call(bank, account, "900000"))
    assert run(bank.accounts.balance(account)) == bank.settings.unlimited_credits_shown
    assert (bank.info(account).balance, bank.info(account).held) == (0, 0)


def test_credits_are_added(bank: Bank) -> None:
    account = bank.account("0.5")
    assert bank.ledger.add(account.id, Decimal("0.25")).balance == Decimal("0.75")
    assert run(bank.accounts.balance(account)) == Decimal("0.75")


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [
        ("900000000", "would pass 900000000"),
        ("-1", "between 0 and"),
        ("NaN", "between 0 and"),
        ("Infinity", "between 0 and"),
        ("0.00000000001", "at most 10 decimal places"),
    ],
)
def test_impossible_sums_are_refused(bank: Bank, amount: str, sentence: str) -> None:
    account = bank.account("1")
    with pytest.raises(AccountsError, match=sentence):
        bank.ledger.add(account.id, Decimal(amount))
    assert bank.info(account).balance == 1


def test_unknown_and_unlimited_accounts_get_no_credits(bank: Bank) -> None:
    account = bank.account(None)
    with pytest.raises(AccountsError, match="unlimited"):
        bank.ledger.add(account.id, Decimal(1))
    with pytest.raises(AccountsError, match="no account 77"):
        bank.ledger.add(77, Decimal(1))


@pytest.mark.parametrize("text", ["0.0000000001", "615.9801263243", "900000000", "10", "0"])
def test_balances_come_back_as_they_were_given(bank: Bank, text: str) -> None:
    assert f"{run(bank.accounts.balance(bank.account(text))):f}" == text


# --- crashes ---

CRASH = """
import asyncio, os, sys
from decimal import Decimal
from server.accounts import Accounts
from server.settings import read_settings

async def crash():
    accounts = Accounts.open(read_settings())
    account = await accounts.authenticate(sys.argv[1])
    async with accounts.hold(account, Decimal("0.6")):
        os._exit(9)

asyncio.run(crash())
"""


def test_holds_of_a_crashed_process_come_back(bank: Bank) -> None:
    key = bank.keys.create_account("a", Decimal(1))
    account = bank.keys.authenticate(key)
    environment = {"FACE_DETAILER_DATA_DIR": str(bank.settings.data_dir)}
    if bank.settings.database_url is not None:
        environment["FACE_DETAILER_DATABASE_URL"] = bank.settings.database_url
    crashed = subprocess.run([sys.executable, "-c", CRASH, key], env=environment, check=False)
    assert crashed.returncode == 9
    assert bank.info(account).held == Decimal("0.6")
    assert bank.accounts.release_leftovers(only_expired=True) == 0
    assert bank.accounts.release_leftovers(only_expired=False) == 1
    assert (bank.info(account).balance, bank.info(account).held) == (1, 0)


def test_an_expired_hold_yields_to_a_call_that_needs_it(bank: Bank) -> None:
    account = bank.account("1")
    bank.ledger.place_hold("a" * 32, account, Decimal("0.9"), lifetime_s=-1)
    run(call(bank, account, "0.8"))
    bank.ledger.settle_hold("a" * 32)
    assert (bank.info(account).balance, bank.info(account).held) == (Decimal("0.2"), 0)
