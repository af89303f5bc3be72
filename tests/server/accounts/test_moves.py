"""Credits that change their place are counted once, also where the storage fails meanwhile."""

import uuid
from collections import Counter
from decimal import Decimal

import pytest
from bank import Bank
from sqlalchemy.exc import IntegrityError

from server.accounting import QueueLimits
from server.accounts import holds
from server.accounts.jobs import JobStore
from server.accounts.moves import listen
from server.types import Submission

PRICE = Decimal("0.1")
CREDIT = 10**10
ROOMY = QueueLimits(per_account=100, total=1000)


@pytest.fixture
def moved(bank: Bank) -> Counter[str]:
    """The units that were counted, by how they moved."""
    counted: Counter[str] = Counter()

    def count(move: str, units: int) -> None:
        counted[move] += units

    listen(bank.engine, count)
    return counted


def test_what_is_done_again_is_counted_once(bank: Bank, moved: Counter[str]) -> None:
    account, store = bank.account("1"), JobStore(bank.engine, "here")
    for _ in range(2):
        bank.ledger.place_hold("e" * 32, account, PRICE, "server")
    for _ in range(2):
        bank.ledger.settle_hold("e" * 32, account.id, PRICE / 4)
    done, failed = (
        Submission(uuid.uuid4().hex, account.id, account.key_id, "{}") for _ in range(2)
    )
    for job in (done, failed):
        for _ in range(2):
            store.submit(job, PRICE, ROOMY)
        store.claim("server")
    for _ in range(2):
        assert store.complete(done.id, "server", "{}", PRICE / 2)
        assert store.fail(failed.id, "server", "why", 500)
    assert moved == {
        "held": 0.3 * CREDIT,
        "charged": 0.075 * CREDIT,
        "refunded": 0.225 * CREDIT,
    }
    assert bank.info(account).balance == Decimal("0.925")


def test_what_could_not_be_committed_is_not_counted(bank: Bank, moved: Counter[str]) -> None:
    """By a constraint that the database checks at the very end."""
    account = bank.account("1")
    is_postgres = bank.engine.dialect.name == "postgresql"
    if is_postgres:
        with bank.engine.begin() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE holds ALTER CONSTRAINT fk_holds_account_id DEFERRABLE"
            )

    def transaction(account_id: int) -> None:
        with bank.engine.begin() as connection:
            checks = (
                "SET CONSTRAINTS ALL DEFERRED" if is_postgres else "PRAGMA defer_foreign_keys=1"
            )
            connection.exec_driver_sql(checks)
            holds.place(connection, "f" * 32, account.id, CREDIT, None)
            connection.exec_driver_sql(f"UPDATE holds SET account_id = {account_id}")

    with pytest.raises(IntegrityError):
        transaction(account.id + 1)
    assert not moved
    transaction(account.id)
    assert moved == {"held": CREDIT}
