"""`face-detailer credits audit`: books that agree, and each way in which they do not."""

import asyncio
import threading
from decimal import Decimal

import pytest
from bank import Bank, run
from sqlalchemy import insert, text

from server.accounting import QueueLimits
from server.accounts.audit import audit
from server.accounts.database import HOLDS
from server.types import Submission


def submit(bank: Bank, account_id: int, key_id: int, job_id: str) -> None:
    store = bank.accounts.jobs("store")
    submission = Submission(job_id, account_id, key_id, "{}")
    run(store.submit(submission, Decimal("0.5"), QueueLimits(10, 10)))


def test_books_that_agree(bank: Bank) -> None:
    account, unlimited = bank.account("5"), bank.account(None)

    async def calls() -> None:
        for who in (account, unlimited):
            async with bank.accounts.hold(who, Decimal("0.3")) as hold:
                hold.settle(Decimal("0.1"))
            async with bank.accounts.hold(who, Decimal("0.3")):
                pass

    run(calls())
    bank.ledger.add(account.id, Decimal("1.0000000001"))
    submit(bank, account.id, account.key_id, "a" * 32)
    assert audit(bank.engine) == (2, [])
    assert bank.info(account).balance == Decimal("5.9000000001")


def change(bank: Bank, statement: str) -> None:
    with bank.engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "UPDATE accounts SET balance_units = balance_units - 1",
            "Account 1 has 4.9999999999 credits, and its entries sum up to 5.",
        ),
        ("DELETE FROM ledger", "Account 1 has 5 credits, and its entries sum up to 0."),
        (
            "UPDATE accounts SET held_units = 10000000000",
            "Account 1 has 1 credits set aside, and its calls hold 0.5.",
        ),
    ],
)
def test_a_sum_that_is_wrong_is_told(bank: Bank, statement: str, sentence: str) -> None:
    account = bank.account("5")
    submit(bank, account.id, account.key_id, "a" * 32)
    change(bank, statement)
    assert audit(bank.engine) == (1, [sentence])


def test_a_request_without_its_hold_is_told(bank: Bank) -> None:
    account = bank.account("5")
    submit(bank, account.id, account.key_id, "a" * 32)
    change(bank, "DELETE FROM holds")
    change(bank, "UPDATE accounts SET held_units = 0")
    lacking = f"Request {'a' * 32} of account 1 is open, and nothing is set aside for it."
    assert audit(bank.engine) == (1, [lacking])


def test_a_hold_that_outlived_its_request_is_told(bank: Bank) -> None:
    account = bank.account("5")
    submit(bank, account.id, account.key_id, "a" * 32)
    change(bank, "UPDATE jobs SET state = 'COMPLETED'")
    assert audit(bank.engine) == (
        1,
        [f"Request {'a' * 32} of account 1 has ended, and credits are still set aside for it."],
    )


def test_calls_that_run_meanwhile_are_no_deviation(bank: Bank) -> None:
    account, over = bank.account("100"), threading.Event()

    async def calls() -> None:
        while not over.is_set():
            async with bank.accounts.hold(account, Decimal("0.01")) as hold:
                hold.settle(Decimal("0.005"))

    thread = threading.Thread(target=asyncio.run, args=(calls(),))
    thread.start()
    try:
        assert [audit(bank.engine) for _ in range(50)] == [(1, [])] * 50
    finally:
        over.set()
        thread.join()


def test_more_is_never_charged_than_was_set_aside(bank: Bank) -> None:
    account = bank.account("1")

    async def call() -> None:
        async with bank.accounts.hold(account, Decimal("0.2")) as hold:
            hold.settle(Decimal("0.7"))

    run(call())
    assert bank.info(account).balance == Decimal("0.8")


def test_an_account_without_holds_of_its_own_is_told(bank: Bank) -> None:
    bank.account("5")
    row = {"id": "b" * 32, "account_id": 1, "units": 10**9, "lease_id": "c" * 32}
    with bank.engine.begin() as connection:
        connection.execute(insert(HOLDS).values(row))
    assert audit(bank.engine)[1] == ["Account 1 has 0 credits set aside, and its calls hold 0.1."]
