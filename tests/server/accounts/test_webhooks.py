"""Webhooks that are owed, on real databases of both kinds."""

import uuid
from decimal import Decimal

import pytest
from bank import Bank
from sqlalchemy import update

from server.accounting import Account, QueueLimits
from server.accounts.database import JOBS
from server.accounts.jobs import JobStore
from server.accounts.webhooks import WebhookStore
from server.types import StoredJob, Submission

ROOMY = QueueLimits(per_account=100, total=1000)
URL = "https://a.example/"


@pytest.fixture
def store(bank: Bank) -> JobStore:
    return JobStore(bank.engine, "here")


@pytest.fixture
def owed(bank: Bank) -> WebhookStore:
    return WebhookStore(bank.engine, "here")


def submit(store: JobStore, account: Account, url: str | None = None) -> StoredJob:
    sent = Submission(uuid.uuid4().hex, account.id, account.key_id, "{}", webhook_url=url)
    return store.submit(sent, Decimal("0.1"), ROOMY)[0]


def ended(store: JobStore, account: Account) -> StoredJob:
    """A job that has ended, and whose webhook is due."""
    job = submit(store, account, URL)
    store.claim("server")
    store.complete(job.id, "server", "{}")
    return store.get(job.id, account.id)


def test_nothing_is_owed_before_the_end(bank: Bank, store: JobStore, owed: WebhookStore) -> None:
    submit(store, bank.account("1"), URL)
    assert owed.claim(30) is None
    store.claim("server")
    assert owed.claim(30) is None


def test_a_webhook_is_owed_until_it_is_delivered(
    bank: Bank, store: JobStore, owed: WebhookStore
) -> None:
    job = ended(store, bank.account("1"))
    assert WebhookStore(bank.engine, "elsewhere").claim(30) is None
    assert owed.claim(30) == job
    assert owed.claim(30) is None
    # Whoever took it may have died.
    with bank.engine.begin() as connection:
        connection.execute(update(JOBS).values(webhook_due_ms=JOBS.c.webhook_due_ms - 30_000))
    assert owed.claim(0) == job
    owed.end(job.id)
    assert owed.claim(30) is None
    # Too late: it was delivered.
    owed.put_off(job.id, 0, tries=1)
    assert owed.claim(30) is None


def test_a_webhook_that_is_put_off_counts_its_tries(
    bank: Bank, store: JobStore, owed: WebhookStore
) -> None:
    job = ended(store, bank.account("1"))
    owed.claim(30)
    owed.put_off(job.id, 0, tries=1)
    again = owed.claim(30)
    assert again is not None
    assert again.webhook_tries == 1
    owed.put_off(job.id, 30, tries=2)
    assert owed.claim(30) is None


def test_a_keys_own_webhook_is_owed_too_and_nothing_else(
    bank: Bank, store: JobStore, owed: WebhookStore
) -> None:
    key = bank.keys.create_account("a", Decimal(1))
    account = bank.keys.authenticate(key)
    quiet = submit(store, account)
    store.claim("server")
    store.fail(quiet.id, "server", "why", 500)
    assert owed.claim(30) is None
    bank.keys.set_webhook(key, URL)
    told, cancelled = submit(store, account), submit(store, account)
    store.claim("server")
    store.fail(told.id, "server", "why", 500)
    store.cancel(cancelled.id, account.id, "cancelled", 409)
    assert {job.id for job in (owed.claim(30) for _ in range(3)) if job} == {told.id, cancelled.id}


def test_no_job_is_forgotten_while_its_webhook_is_owed(
    bank: Bank, store: JobStore, owed: WebhookStore
) -> None:
    job = ended(store, bank.account("1"))
    assert job.finished_ms is not None
    assert store.expire(job.finished_ms + 1) == []
    owed.end(job.id)
    assert store.expire(job.finished_ms + 1) == [job.id]
