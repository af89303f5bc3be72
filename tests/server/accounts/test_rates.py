"""Calls per minute and per day: counted by all servers together, and kept by the database."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from bank import Bank, run
from sqlalchemy import event, select, update

from server.accounting import Account
from server.accounts.database import RATES, open_database
from server.accounts.rates import DAY_S, MINUTE_S
from server.accounts.service import AccountService
from server.errors import RateLimited
from server.settings import Settings

Open = Callable[[], AccountService]


@pytest.fixture
def limited(database_settings: Settings) -> Settings:
    return database_settings.model_copy(
        update={"rate_limit_per_minute": 3, "rate_limit_per_day": 5}
    )


@pytest.fixture
def server(limited: Settings) -> Iterator[Open]:
    """A further server on the same database."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(AccountService.open(limited)))


@pytest.fixture
def account(bank: Bank) -> Account:
    return bank.account("1")


def counted(service: AccountService, account: Account, calls: int = 1) -> int:
    """How many of so many calls were let in."""

    async def call() -> bool:
        try:
            await service.count_call(account)
        except RateLimited:
            return False
        return True

    async def all_at_once() -> int:
        return sum(await asyncio.gather(*(call() for _ in range(calls))))

    return run(all_at_once())


def refusal(service: AccountService, account: Account) -> float:
    """When the account may call again, in seconds."""
    with pytest.raises(RateLimited) as caught:
        run(service.count_call(account))
    return caught.value.retry_after_s


def pass_by(bank: Bank, seconds: int) -> None:
    """As if every count were older by so many seconds."""
    with bank.engine.begin() as connection:
        connection.execute(update(RATES).values(begun_ms=RATES.c.begun_ms - seconds * 1000))


def calls_today(bank: Bank) -> int | None:
    with bank.engine.begin() as connection:
        return connection.scalar(select(RATES.c.calls).where(RATES.c.span_s == DAY_S))


def test_two_servers_count_together_and_each_account_for_itself(
    server: Open, bank: Bank, account: Account
) -> None:
    one, other = server(), server()
    assert [counted(one, account), counted(other, account), counted(one, account)] == [1, 1, 1]
    for service in (one, other):
        assert MINUTE_S - 30 < refusal(service, account) <= MINUTE_S
    assert counted(other, bank.account("1"), 3) == 3


def test_a_race_lets_in_as_many_as_there_may_be(server: Open, bank: Bank, account: Account) -> None:
    assert counted(server(), account, 20) == 3
    assert calls_today(bank) == 3


def test_a_call_that_its_minute_refuses_is_none_of_its_day(
    server: Open, bank: Bank, account: Account
) -> None:
    assert counted(server(), account, 9) == 3
    assert calls_today(bank) == 3
    pass_by(bank, MINUTE_S)
    assert counted(server(), account, 9) == 2
    assert DAY_S - 2 * MINUTE_S < refusal(server(), account) <= DAY_S - MINUTE_S


def test_a_new_server_knows_the_day_and_a_new_day_is_empty(
    server: Open, bank: Bank, account: Account
) -> None:
    for _ in range(2):
        counted(server(), account, 3)
        pass_by(bank, MINUTE_S)
    assert calls_today(bank) == 5
    assert refusal(server(), account) > MINUTE_S
    pass_by(bank, DAY_S)
    assert counted(server(), account, 3) == 3
    assert calls_today(bank) == 3


def test_a_flood_is_refused_from_memory(limited: Settings, account: Account) -> None:
    engine = open_database(limited)
    with contextlib.closing(AccountService(engine, limited)) as service:
        assert counted(service, account, 4) == 3
        seen: list[str] = []

        @event.listens_for(engine, "before_cursor_execute")
        def _note(*arguments: object) -> None:
            seen.append(str(arguments[2]))

        assert counted(service, account, 1000) == 0
        assert seen == []


def test_a_clock_that_was_ahead_locks_nobody_out(
    server: Open, bank: Bank, account: Account
) -> None:
    service = server()
    assert counted(service, account, 3) == 3
    pass_by(bank, -365 * DAY_S)
    assert counted(service, account, 4) == 3
    assert refusal(service, account) <= MINUTE_S


def test_without_limits_nothing_is_counted(bank: Bank, account: Account) -> None:
    assert counted(bank.accounts, account, 50) == 50
    assert calls_today(bank) is None


def test_the_refusal_is_forgotten_when_the_minute_is_over(
    server: Open, bank: Bank, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = server()
    assert counted(service, account, 3) == 3
    pass_by(bank, MINUTE_S - 30)
    left_s = refusal(service, account)
    assert 0 < left_s <= 30
    pass_by(bank, 30)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 30)
    monkeypatch.setattr("server.accounts.rates.time", later)
    assert counted(service, account) == 1
