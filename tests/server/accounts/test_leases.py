"""Holds and jobs of servers that died come back, and those of living servers stay: on real
databases of both kinds.
"""

import asyncio
import contextlib
import uuid
from decimal import Decimal

import pytest
from alembic import command
from alembic.config import Config
from bank import Bank, run
from sqlalchemy import text, update

from server.accounting import Account, QueueLimits
from server.accounts import database
from server.accounts.connecting import create_engine_of
from server.accounts.database import LEASES, open_database
from server.accounts.jobs import JobStore
from server.accounts.leases import LEASE_S, Leases, Leftovers
from server.settings import Settings
from server.types import JobState, Submission

PRICE = Decimal("0.2")
ROOMY = QueueLimits(per_account=100, total=1000)
KEEP_S = 3600.0


def stop_beating(bank: Bank, lease: str, for_s: float) -> None:
    """As if the server had not renewed its lease for so long."""
    with bank.engine.begin() as connection:
        late = LEASES.c.beat_ms - int(for_s * 1000)
        connection.execute(update(LEASES).where(LEASES.c.id == lease).values(beat_ms=late))


def begun_job(bank: Bank, account: Account, store: str, owner: str) -> str:
    jobs = JobStore(bank.engine, store)
    sent = Submission(uuid.uuid4().hex, account.id, account.key_id, "{}")
    jobs.submit(sent, PRICE, ROOMY)
    assert jobs.claim(owner) is not None
    return sent.id


def held(bank: Bank, account: Account) -> Decimal:
    return bank.info(account).held


def test_a_restarted_server_has_everything_back_at_once(bank: Bank) -> None:
    account = bank.account("1")
    Leases(bank.engine, "dead").begin("here")
    bank.ledger.place_hold("a" * 32, account, PRICE, "dead")
    job_id = begun_job(bank, account, "here", "dead")
    assert held(bank, account) == 2 * PRICE
    assert Leases(bank.engine, "next").begin("here") == Leftovers(holds=1, jobs=1)
    assert held(bank, account) == PRICE
    assert JobStore(bank.engine, "here").get(job_id, account.id).state is JobState.QUEUED


def test_servers_that_share_a_store_leave_each_others_alone(bank: Bank) -> None:
    account = bank.account("1")
    Leases(bank.engine, "first").join("here")
    bank.ledger.place_hold("a" * 32, account, PRICE, "first")
    job_id = begun_job(bank, account, "here", "first")
    second = Leases(bank.engine, "second")
    assert second.join("here") == second.clear_up(KEEP_S) == Leftovers()
    assert held(bank, account) == 2 * PRICE
    stop_beating(bank, "first", LEASE_S + 1)
    assert second.clear_up(KEEP_S) == Leftovers(holds=1, jobs=1)
    assert JobStore(bank.engine, "here").get(job_id, account.id).state is JobState.QUEUED


def test_a_server_that_starts_leaves_those_elsewhere_alone(bank: Bank) -> None:
    account = bank.account("1")
    Leases(bank.engine, "living").begin("there")
    bank.ledger.place_hold("a" * 32, account, PRICE, "living")
    job_id = begun_job(bank, account, "there", "living")
    other = Leases(bank.engine, "new")
    assert other.begin("here") == other.clear_up(KEEP_S) == Leftovers()
    assert held(bank, account) == 2 * PRICE
    assert JobStore(bank.engine, "there").get(job_id, account.id).state is JobState.PROCESSING


@pytest.mark.parametrize("renewed", [True, False])
def test_any_living_server_takes_from_one_whose_lease_has_ended(bank: Bank, renewed: bool) -> None:
    account = bank.account("1")
    slow, living = Leases(bank.engine, "slow"), Leases(bank.engine, "living")
    slow.begin("there")
    living.begin("here")
    bank.ledger.place_hold("a" * 32, account, PRICE, "slow")
    bank.ledger.place_hold("b" * 32, account, PRICE, "living")
    job_id = begun_job(bank, account, "there", "slow")
    stop_beating(bank, "slow", LEASE_S + 1)
    if renewed:
        slow.renew("there")
    found = living.clear_up(KEEP_S)
    assert found == (Leftovers() if renewed else Leftovers(holds=1, jobs=1))
    assert held(bank, account) == (3 if renewed else 2) * PRICE
    if renewed:
        return
    assert living.clear_up(KEEP_S) == Leftovers()
    # It was only slow: its call is free, and its job another server's.
    assert bank.ledger.settle_hold("a" * 32, account.id) == 1
    assert not JobStore(bank.engine, "there").complete(job_id, "slow", "{}")
    slow.renew("there")
    assert JobStore(bank.engine, "there").claim("slow") is not None


def test_nobody_takes_anything_after_the_database_was_away(bank: Bank) -> None:
    account = bank.account("1")
    mine, others = Leases(bank.engine, "mine"), Leases(bank.engine, "others")
    mine.join("here")
    others.join("there")
    bank.ledger.place_hold("a" * 32, account, PRICE, "others")
    begun_job(bank, account, "there", "others")
    for lease in ("mine", "others"):
        stop_beating(bank, lease, LEASE_S + 1)
    assert mine.clear_up(KEEP_S) == Leftovers()
    assert held(bank, account) == 2 * PRICE
    mine.renew("here")
    assert mine.clear_up(KEEP_S) == Leftovers(holds=1, jobs=1)
    assert held(bank, account) == PRICE


def test_results_that_are_kept_for_a_second_make_no_server_dead_sooner(bank: Bank) -> None:
    account = bank.account("1")
    mine, others = Leases(bank.engine, "mine"), Leases(bank.engine, "others")
    mine.join("here")
    others.join("there")
    job_id = begun_job(bank, account, "there", "others")
    with bank.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET created_ms = created_ms - 5000"))
    stop_beating(bank, "others", 4)
    assert mine.clear_up(1.0) == Leftovers()
    assert JobStore(bank.engine, "there").get(job_id, account.id).state is JobState.PROCESSING


def test_the_jobs_of_a_server_that_never_comes_back_fail_at_no_cost(bank: Bank) -> None:
    account = bank.account("1")
    Leases(bank.engine, "gone").begin("there")
    living = Leases(bank.engine, "living")
    living.begin("here")
    lost, mine = (
        begun_job(bank, account, s, o) for s, o in (("there", "gone"), ("here", "living"))
    )
    with bank.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET created_ms = created_ms - 4000000"))
    stop_beating(bank, "gone", 3000)
    assert living.clear_up(KEEP_S) == Leftovers(jobs=1), "its server may come back within the hour"
    stop_beating(bank, "gone", 1000)
    assert living.clear_up(KEEP_S) == Leftovers(abandoned=1)
    ended = JobStore(bank.engine, "there").get(lost, account.id)
    assert (ended.state, ended.error) == (
        JobState.FAILED,
        "The server that had this request is gone",
    )
    assert JobStore(bank.engine, "here").get(mine, account.id).state is JobState.PROCESSING
    assert (bank.info(account).balance, held(bank, account)) == (1, PRICE)


@pytest.mark.slow
def test_two_servers_at_work_beat_and_keep_what_is_theirs(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lease of five seconds, for longer than that, while one dies."""
    monkeypatch.setattr("server.accounts.leases.LEASE_S", 5.0)
    monkeypatch.setattr("server.accounts.living.LEASE_S", 5.0)
    monkeypatch.setattr("server.accounts.living._BEAT_EVERY_S", 1.0)
    account = bank.account("1")
    second = Bank(bank.settings)
    Leases(bank.engine, "dead").begin("lost")
    bank.ledger.place_hold("d" * 32, account, PRICE, "dead")

    async def scene() -> None:
        async with (
            bank.accounts.serving("here"),
            second.accounts.serving("there"),
            bank.accounts.hold(account, PRICE) as first,
            second.accounts.hold(account, PRICE) as other,
        ):
            async with asyncio.timeout(60):
                while held(bank, account) > 2 * PRICE:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(6)
            assert held(bank, account) == 2 * PRICE
            first.settle()
            other.settle()

    with contextlib.closing(second.accounts):
        run(scene())
    assert (bank.info(account).balance, held(bank, account)) == (1 - 2 * PRICE, 0)


def test_holds_and_jobs_of_the_version_before_survive_the_migration(
    database_settings: Settings,
) -> None:
    engine = create_engine_of(database._address(database_settings))
    config = Config()
    config.set_main_option("script_location", str(database._MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for statement in (
            "INSERT INTO accounts VALUES (7, 'old', false, 10000000000, 500, 0)",
            "INSERT INTO api_keys VALUES (7, 7, 'old', 'SG_0', 'x', false, 0, NULL, NULL)",
            "INSERT INTO holds VALUES ('call', 7, 200, 1700000000)",
            f"INSERT INTO holds VALUES ('job', 7, 300, {2**62})",
            "INSERT INTO jobs (id, account_id, key_id, state, store, request, created_ms, lease_ms,"
            " owner, attempts, cancelled, webhook_tries) VALUES"
            " ('job', 7, 7, 'PROCESSING', 'here', '{}', 1, 2, 'old', 1, false, 0)",
        ):
            connection.execute(text(statement))
    engine.dispose()
    engine = open_database(database_settings)
    leases, jobs = Leases(engine, "new"), JobStore(engine, "here")
    assert leases.begin("here") == Leftovers(jobs=1)
    assert leases.clear_up(KEEP_S) == Leftovers(holds=1)
    claimed = jobs.claim("new")
    assert claimed is not None
    assert jobs.complete(claimed.id, "new", "{}")
    with engine.connect() as connection:
        row = connection.execute(text("SELECT balance_units, held_units FROM accounts")).one()
    assert tuple(row) == (10_000_000_000 - 300, 0)
    engine.dispose()
