"""Credits, on real databases of both kinds."""

import asyncio
import contextlib
import subprocess
import sys
from decimal import Decimal

import pytest
from bank import UNIT, Bank, run

from server.accounting import Account, Accounts
from server.accounts.ledger import AccountsError
from server.errors import NotEnoughCredits


async def call(bank: Bank, account: Account, amount: str) -> None:
    async with bank.accounts.hold(account, Decimal(amount)) as hold:
        await asyncio.sleep(0.01)
        hold.settle()


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
        # On a busy machine it has answered by then.
        with contextlib.suppress(asyncio.CancelledError):
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
from server.accounts.service import AccountService
from server.settings import read_settings

async def crash():
    accounts = AccountService.open(read_settings())
    account = await accounts.authenticate(sys.argv[1])
    async with accounts.serving("here"), accounts.hold(account, Decimal("0.6")):
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

    async def restart() -> None:
        async with bank.accounts.serving("here"):
            pass

    run(restart())
    assert (bank.info(account).balance, bank.info(account).held) == (1, 0)
