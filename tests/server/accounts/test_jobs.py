"""Stored jobs and their credits, on real databases of both kinds."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from bank import Bank

from server.accounting import Account, QueueLimits
from server.accounts.jobs import MOST_ATTEMPTS, JobStore
from server.accounts.leases import Leases, Leftovers
from server.errors import Busy, KeyReused, NotEnoughCredits, UnknownRequest
from server.types import JobState, StoredJob, Submission

ROOMY = QueueLimits(per_account=100, total=1000)
PRICE = Decimal("0.1")


@pytest.fixture
def store(bank: Bank) -> JobStore:
    return JobStore(bank.engine, "here")


def submission(account: Account, key: str | None = None, body: str = "a") -> Submission:
    return Submission(
        uuid.uuid4().hex, account.id, account.key_id, "{}", key, body if key else None
    )


def submit(store: JobStore, account: Account, limits: QueueLimits = ROOMY) -> StoredJob:
    job, new = store.submit(submission(account), PRICE, limits)
    assert new
    return job


def standing(bank: Bank, account: Account) -> tuple[Decimal, Decimal]:
    info = bank.info(account)
    return info.balance, info.held


def test_a_job_is_paid_when_it_completes_and_once(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    job = submit(store, account)
    assert (job.state, standing(bank, account)) == (JobState.QUEUED, (1, Decimal("0.1")))
    claimed = store.claim("server")
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.attempts) == (job.id, JobState.PROCESSING, 1)
    assert store.claim("server") is None
    assert store.complete(job.id, "server", '{"a": 1}')
    assert not store.complete(job.id, "server", "{}")
    assert not store.fail(job.id, "server", "late", 500)
    done = store.get(job.id, account.id)
    assert (done.state, done.result) == (JobState.COMPLETED, '{"a": 1}')
    assert standing(bank, account) == (Decimal("0.9"), 0)


def test_a_failed_job_costs_nothing(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    job = submit(store, account)
    store.claim("server")
    assert store.fail(job.id, "server", "why", 500)
    failed = store.get(job.id, account.id)
    assert (failed.state, failed.error, failed.result) == (JobState.FAILED, "why", None)
    assert standing(bank, account) == (1, 0)


def test_who_cannot_pay_leaves_no_job(bank: Bank, store: JobStore) -> None:
    account = bank.account("0.15")
    submit(store, account)
    with pytest.raises(NotEnoughCredits):
        submit(store, account)
    assert store.claim("server") is not None
    assert store.claim("server") is None


def test_another_accounts_job_is_unknown(bank: Bank, store: JobStore) -> None:
    mine, other = bank.account("1"), bank.account("1")
    job = submit(store, mine)
    for attempt in (store.get, lambda *of: store.cancel(*of, "cancelled", 409)):
        with pytest.raises(UnknownRequest):
            attempt(job.id, other.id)
        with pytest.raises(UnknownRequest):
            attempt(uuid.uuid4().hex, mine.id)
    assert store.get(job.id, mine.id).state is JobState.QUEUED


def test_the_same_key_and_body_is_one_job_and_one_charge(bank: Bank, store: JobStore) -> None:
    account, other = bank.account("1"), bank.account("1")
    first, new = store.submit(submission(account, "key"), PRICE, ROOMY)
    again, again_new = store.submit(submission(account, "key"), PRICE, ROOMY)
    assert (new, again_new, again.id) == (True, False, first.id)
    with pytest.raises(KeyReused):
        store.submit(submission(account, "key", body="b"), PRICE, ROOMY)
    theirs, new = store.submit(submission(other, "key", body="b"), PRICE, ROOMY)
    assert new
    assert theirs.id != first.id
    assert standing(bank, account) == (1, Decimal("0.1"))


def test_one_key_sent_many_times_at_once_is_one_job(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    start = threading.Barrier(8)

    def send(_: int) -> tuple[StoredJob, bool]:
        start.wait()
        return store.submit(submission(account, "key"), PRICE, ROOMY)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert sum(new for _, new in answers) == 1
    assert len({job.id for job, _ in answers}) == 1
    assert standing(bank, account) == (1, Decimal("0.1"))


def test_the_queue_is_bounded_per_account_and_in_all(bank: Bank, store: JobStore) -> None:
    accounts = [bank.account("9") for _ in range(3)]
    limits = QueueLimits(per_account=2, total=3)
    first = submit(store, accounts[0], limits)
    submit(store, accounts[0], limits)
    with pytest.raises(Busy):
        submit(store, accounts[0], limits)
    assert standing(bank, accounts[0])[1] == Decimal("0.2")
    submit(store, accounts[1], limits)
    with pytest.raises(Busy):
        submit(store, accounts[2], limits)
    store.cancel(first.id, accounts[0].id, "cancelled", 409)
    submit(store, accounts[2], limits)


def test_a_full_queue_has_room_for_what_is_sent_again(bank: Bank, store: JobStore) -> None:
    account, other = bank.account("1"), bank.account("1")
    limits = QueueLimits(per_account=1, total=2)
    sent = submission(account, "key")
    store.submit(sent, PRICE, limits)
    assert store.has_room(account.id, limits, "key")
    assert not store.has_room(account.id, limits, "other")
    assert not store.has_room(account.id, limits)
    submit(store, other, limits)
    assert not store.has_room(other.id, limits, "key"), "it is another account's"
    assert store.submit(submission(account, "key"), PRICE, limits)[0].id == sent.id


def test_no_job_is_claimed_twice(bank: Bank, store: JobStore) -> None:
    account = bank.account("9")
    jobs = {submit(store, account).id for _ in range(20)}

    def work(name: int) -> list[str]:
        mine = []
        while (job := store.claim(f"server {name}")) is not None:
            mine.append(job.id)
        return mine

    with ThreadPoolExecutor(4) as threads:
        claimed = [job for mine in threads.map(work, range(4)) for job in mine]
    assert (len(claimed), set(claimed)) == (20, jobs)


def test_an_account_that_floods_lets_another_through(bank: Bank, store: JobStore) -> None:
    flooding, single = bank.account("9"), bank.account("9")
    jobs = [submit(store, flooding) for _ in range(5)]
    theirs = submit(store, single)
    claimed = [store.claim("server") for _ in range(3)]
    assert [job.id for job in claimed if job] == [jobs[0].id, theirs.id, jobs[1].id]


def test_jobs_are_claimed_in_order_and_know_their_place(bank: Bank, store: JobStore) -> None:
    account = bank.account("9")
    jobs = []
    for _ in range(3):
        jobs.append(submit(store, account))
        time.sleep(0.002)
    assert [store.ahead(job) for job in jobs] == [0, 1, 2]
    store.claim("server")
    assert [store.ahead(job) for job in jobs[1:]] == [0, 1]


def test_a_waiting_job_is_cancelled_at_once(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    job = submit(store, account)
    cancelled = store.cancel(job.id, account.id, "Request was cancelled", 409)
    assert (cancelled.state, cancelled.error) == (JobState.FAILED, "Request was cancelled")
    assert standing(bank, account) == (1, 0)
    assert store.claim("server") is None


def test_a_running_job_is_cancelled_by_its_server(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    job = submit(store, account)
    store.claim("server")
    assert store.keep("server", [job.id]) == set()
    assert store.cancel(job.id, account.id, "cancelled", 409).state is JobState.PROCESSING
    assert store.keep("another", [job.id]) == set()
    assert store.keep("server", [job.id]) == {job.id}
    store.fail(job.id, "server", "cancelled", 500)
    assert standing(bank, account) == (1, 0)


def test_no_end_is_told_of_a_job_that_only_was_to_end_like_that(
    bank: Bank, store: JobStore
) -> None:
    account = bank.account("1")
    job = submit(store, account)
    store.claim("server")
    store.cancel(job.id, account.id, "cancelled", 409)
    assert not store.fail(job.id, "another", "cancelled", 409)
    assert store.get(job.id, account.id).state is JobState.PROCESSING


def test_a_job_whose_server_died_before_it_stopped_is_not_begun_again(
    bank: Bank, store: JobStore
) -> None:
    account = bank.account("1")
    job = submit(store, account)
    store.claim("dead")
    store.cancel(job.id, account.id, "cancelled", 409)
    Leases(bank.engine, "living").begin("here")
    assert store.claim("living") is None
    ended = store.get(job.id, account.id)
    assert (ended.state, ended.error, ended.error_status) == (JobState.FAILED, "cancelled", 409)
    assert standing(bank, account) == (1, 0)


def test_cancelling_what_has_ended_changes_nothing(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    job = submit(store, account)
    store.claim("server")
    store.complete(job.id, "server", "{}")
    assert store.cancel(job.id, account.id, "cancelled", 409) == store.get(job.id, account.id)
    assert store.get(job.id, account.id).state is JobState.COMPLETED


def test_a_dead_servers_jobs_begin_again(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    job = submit(store, account)
    store.claim("dead")
    assert store.claim("living") is None
    Leases(bank.engine, "living").begin("here")
    again = store.claim("living")
    assert again is not None
    assert (again.id, again.attempts) == (job.id, 2)
    # The dead one was only slow: what it brings now is too late.
    assert not store.complete(job.id, "dead", "{}")
    assert store.complete(job.id, "living", "{}")
    assert standing(bank, account) == (Decimal("0.9"), 0)


def test_what_a_server_began_and_does_not_work_on_is_queued_again(
    bank: Bank, store: JobStore
) -> None:
    account = bank.account("1")
    kept, lost = submit(store, account), submit(store, account)
    for _ in range(2):
        store.claim("server")
    assert store.keep("server", [kept.id]) == set()
    states = [store.get(job.id, account.id).state for job in (kept, lost)]
    assert states == [JobState.PROCESSING, JobState.QUEUED]


def test_only_a_servers_death_counts_as_an_attempt(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    first, other = submit(store, account), submit(store, account)
    for _ in range(MOST_ATTEMPTS + 1):
        assert [store.claim("server").id for _ in range(2)] == [first.id, other.id]
        store.put_back("another")
        store.put_back("server", first.id)
        states = [store.get(job.id, account.id).state for job in (first, other)]
        assert states == [JobState.QUEUED, JobState.PROCESSING]
        # Twice, since the answer of the first time may be lost.
        for _ in range(2):
            store.put_back("server")
    for job in (first, other):
        waiting = store.get(job.id, account.id)
        assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)


def test_what_is_done_again_since_its_answer_was_lost_changes_nothing(
    bank: Bank, store: JobStore
) -> None:
    account = bank.account("1")
    sent = submission(account)
    assert [store.submit(sent, PRICE, ROOMY)[1] for _ in range(2)] == [True, True]
    keyed = submission(bank.account("1"), "key")
    assert [store.submit(keyed, PRICE, ROOMY)[1] for _ in range(2)] == [True, True]
    store.cancel(keyed.id, keyed.account_id, "cancelled", 409)
    store.claim("server")
    assert [store.complete(sent.id, "server", "{}") for _ in range(2)] == [True, True]
    assert standing(bank, account) == (Decimal("0.9"), 0)
    failing = submit(store, account)
    store.claim("server")
    assert [store.fail(failing.id, "server", "why", 500) for _ in range(2)] == [True, True]
    for _ in range(2):
        bank.ledger.place_hold("e" * 32, account, PRICE, "server")
    assert standing(bank, account) == (Decimal("0.9"), PRICE)
    for _ in range(2):
        bank.ledger.settle_hold("e" * 32, account.id)
    assert standing(bank, account) == (Decimal("0.8"), 0)


def test_after_a_restart_everything_begun_is_queued_again(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    jobs = [submit(store, account) for _ in range(2)]
    store.claim("before")
    assert Leases(bank.engine, "after").begin("here").jobs == 1
    assert [store.get(job.id, account.id).state for job in jobs] == [JobState.QUEUED] * 2


def test_a_job_that_takes_every_server_with_it_fails_at_last(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    job = submit(store, account)
    for _ in range(MOST_ATTEMPTS):
        assert store.claim("server") is not None
        Leases(bank.engine, "next").begin("here")
    assert store.claim("server") is None
    failed = store.get(job.id, account.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "Internal Server Error")
    assert standing(bank, account) == (1, 0)


def test_a_servers_start_leaves_the_holds_of_stored_jobs(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    submit(store, account)
    Leases(bank.engine, "before").begin("here")
    bank.ledger.place_hold("f" * 32, account, Decimal("0.2"), "before")
    assert Leases(bank.engine, "after").begin("here") == Leftovers(holds=1)
    assert standing(bank, account) == (1, Decimal("0.1"))


def test_no_server_claims_jobs_whose_files_it_lacks(bank: Bank, store: JobStore) -> None:
    submit(store, bank.account("1"))
    assert JobStore(bank.engine, "elsewhere").claim("server") is None
    assert store.claim("server") is not None


def test_ended_jobs_are_forgotten_after_a_while(bank: Bank, store: JobStore) -> None:
    account = bank.account("1")
    ended, waiting = submit(store, account), submit(store, account)
    store.claim("server")
    store.complete(ended.id, "server", "{}")
    finished = store.get(ended.id, account.id).finished_ms
    assert finished is not None
    assert store.expire(finished) == []
    assert store.expire(finished + 1) == [ended.id]
    with pytest.raises(UnknownRequest):
        store.get(ended.id, account.id)
    assert store.known([ended.id, waiting.id]) == {waiting.id}
