"""How often an account may call, counted by all servers on the database together. Blocking, safe
from any thread and any number of servers.
"""

import threading
import time
from typing import Final

from sqlalchemy import Connection, Engine, case, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from server.accounts.clock import DatabaseNowMs
from server.accounts.database import RATES
from server.errors import RateLimited

MINUTE_S: Final = 60
DAY_S: Final = 24 * 60 * MINUTE_S


class Rates:
    """At most `per_minute` calls a minute and `per_day` a day for each account; 0 means no limit.
    A minute or day begins with the first call after the one before has ended.

    Who was refused is refused from memory until then: a flood writes nothing.
    """

    def __init__(self, engine: Engine, per_minute: int, per_day: int) -> None:
        self._engine = engine
        spans = ((DAY_S, per_day), (MINUTE_S, per_minute))
        self._limits = [(span_s, most) for span_s, most in spans if most]
        self._refused_until_s: dict[int, float] = {}
        self._lock = threading.Lock()

    @property
    def limited(self) -> bool:
        """Whether there is anything to count."""
        return bool(self._limits)

    def check(self, account_id: int) -> None:
        """See that the account was not refused before; does not block.

        Raises:
            RateLimited: it was; it says when the account may call again.
        """
        with self._lock:
            left_s = self._refused_until_s.get(account_id, 0.0) - time.monotonic()
            if left_s <= 0:
                self._refused_until_s.pop(account_id, None)
                return
        raise RateLimited(left_s)

    def count(self, account_id: int) -> None:
        """Count one call; one that is refused counts nowhere. Done again after a fault of the
        storage, it may count a call twice.

        Raises:
            RateLimited: the account has used up its minute or its day; it says when it may call
                again.
        """
        try:
            with self._engine.begin() as connection:
                for span_s, most in self._limits:
                    if not _take(connection, account_id, span_s, most):
                        # Which also takes back what the day has counted.
                        raise RateLimited(_left_s(connection, account_id, span_s))
        except RateLimited as refusal:
            with self._lock:
                until_s = time.monotonic() + refusal.retry_after_s
                self._refused_until_s[account_id] = until_s
            raise


def _take(connection: Connection, account_id: int, span_s: int, most: int) -> bool:
    """Count one call, unless there were as many already; whether it was counted."""
    # The same statement, in the words of either.
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    now_ms = DatabaseNowMs()
    row = {"account_id": account_id, "span_s": span_s, "begun_ms": now_ms, "calls": 1}
    age_ms = now_ms - RATES.c.begun_ms
    # One that is yet to begin comes of a clock that was ahead.
    is_over = or_(age_ms >= span_s * 1000, age_ms < 0)
    calls = connection.scalar(
        insert(RATES)
        .values(row)
        .on_conflict_do_update(
            index_elements=[RATES.c.account_id, RATES.c.span_s],
            set_={
                "begun_ms": case((is_over, now_ms), else_=RATES.c.begun_ms),
                "calls": case((is_over, 1), else_=RATES.c.calls + 1),
            },
            where=or_(is_over, RATES.c.calls < most),
        )
        .returning(RATES.c.calls)
    )
    return calls is not None


def _left_s(connection: Connection, account_id: int, span_s: int) -> float:
    own = (RATES.c.account_id == account_id) & (RATES.c.span_s == span_s)
    begun_ago_ms = connection.scalar(select(DatabaseNowMs() - RATES.c.begun_ms).where(own))
    return min(span_s, max(0.0, span_s - (begun_ago_ms or 0) / 1000))
