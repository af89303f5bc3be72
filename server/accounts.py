"""Accounts as the HTTP process uses them: the same transactions, awaited."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Self, TypeVar

from sqlalchemy import Engine

from server.database import open_database
from server.keys import KeyRing
from server.ledger import Account, Ledger
from server.settings import Settings

__all__ = ["Account", "Accounts", "Hold"]

# A call may wait for its picture before the work that has the deadline, and for its reply after it.
_HOLD_MARGIN_S = 600
_THREADS = 4
T = TypeVar("T")


class Hold:
    """Credits set aside for one call."""

    def __init__(self) -> None:
        self.settled = False

    def settle(self) -> None:
        """The call has succeeded: its credits are taken when the `async with` block is left."""
        self.settled = True


class Accounts:
    """Who may call, and what they have left."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._keys = KeyRing(engine)
        self._ledger = Ledger(engine)
        self._hold_lifetime_s = settings.request_timeout_s + _HOLD_MARGIN_S
        self._shown = settings.unlimited_credits_shown
        # Threads of its own: a release must not queue behind pictures being decoded.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="accounts")

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the database of `settings`, its tables brought up to date.

        Raises:
            DatabaseError: it cannot be reached, opened or upgraded.
        """
        return cls(open_database(settings), settings)

    def close(self) -> None:
        """Finish what is running and close all connections."""
        self._threads.shutdown()
        self._engine.dispose()

    def create_first_key(self) -> str | None:
        """An unlimited account's key where there is no key at all. Blocks."""
        return self._keys.create_first()

    def release_leftovers(self, *, only_expired: bool) -> int:
        """Give back what servers that died had set aside; how many holds those were. Blocks.

        With `only_expired` False every hold counts as one: no server may be running then.
        """
        return self._ledger.release_leftovers(only_expired=only_expired)

    async def authenticate(self, key: str) -> Account:
        """Whose key this is.

        Raises:
            BadKey: unknown or revoked.
        """
        return await self._run(lambda: self._keys.authenticate(key))

    async def balance(self, account: Account) -> Decimal:
        """Credits left, with those that running calls have set aside.

        An unlimited account has a fixed number.
        """
        if account.unlimited:
            return self._shown
        return await self._run(lambda: self._ledger.balance(account))

    @contextlib.asynccontextmanager
    async def hold(self, account: Account, amount: Decimal) -> AsyncIterator[Hold]:
        """Set `amount` aside while the block runs.

        It is taken if the block called `settle` and ended well; otherwise it is given back.

        Raises:
            NotEnoughCredits: on entry; nothing was set aside.
        """
        hold, hold_id = Hold(), uuid.uuid4().hex
        taken = False
        try:
            await self._run(
                lambda: self._ledger.place_hold(hold_id, account, amount, self._hold_lifetime_s)
            )
            yield hold
            if hold.settled:
                await self._run(lambda: self._ledger.settle_hold(hold_id))
                taken = True
        finally:
            if not taken:
                await self._run(lambda: self._ledger.release_hold(hold_id))

    async def _run(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread, to its end even if the caller is cancelled meanwhile."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait({future})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            future.exception()
            raise cancelled
        return future.result()
