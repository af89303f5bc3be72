"""Accounts as the HTTP process uses them: the same transactions, awaited."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Self

from sqlalchemy import Engine

from server.accounting import Account, Hold, OwedWebhooks, StoredJobs
from server.accounts.closings import Closings
from server.accounts.database import open_database
from server.accounts.jobs import JobStore
from server.accounts.keys import KeyRing
from server.accounts.leases import Leases
from server.accounts.ledger import Ledger, to_credits
from server.accounts.living import Living
from server.accounts.moves import listen
from server.accounts.rates import Rates
from server.accounts.threads import Threads
from server.accounts.webhooks import WebhookStore
from server.errors import StorageAway
from server.metrics import Metrics
from server.settings import Settings


class AccountService:
    """`server.accounting.Accounts`, over one database."""

    def __init__(self, engine: Engine, settings: Settings, *, alone: bool = True) -> None:
        """`alone`: whether no other server uses the same store at the same time."""
        self._engine = engine
        self._keys = KeyRing(engine)
        self._shown = settings.unlimited_credits_shown
        self._threads = Threads()
        self._closings = Closings(self._threads)
        self._lease = uuid.uuid4().hex
        leases, keep_s = Leases(engine, self._lease), settings.keep_results_s
        self._living = Living(leases, self._threads, keep_s, alone=alone)
        self._ledger = ledger = Ledger(engine)
        self._balance = self._threads.read(ledger.balance)
        self._rates = Rates(engine, settings.rate_limit_per_minute, settings.rate_limit_per_day)
        self._count_call = self._threads.write(self._rates.count, always=True)
        self._settle_hold = self._threads.write(ledger.settle_hold, patient=True)
        self._release_hold = self._threads.write(ledger.release_hold, patient=True)
        self.authenticate = self._threads.read(self._keys.authenticate)
        self.webhook = self._threads.write(self._keys.webhook, patient=True)

    @classmethod
    def open(cls, settings: Settings, *, alone: bool = True) -> Self:
        """Open the database of `settings`, its tables brought up to date. `alone`: see `__init__`.

        Raises:
            DatabaseError: it cannot be reached, opened or upgraded.
        """
        return cls(open_database(settings), settings, alone=alone)

    def close(self) -> None:
        """Finish what is running and close all connections."""
        self._threads.close()
        self._engine.dispose()

    def report_to(self, metrics: Metrics) -> None:
        """Count there every change of credits that this process makes from now on."""
        listen(self._engine, lambda move, units: metrics.count_credits(move, to_credits(units)))

    def create_first_key(self) -> str | None:
        """An unlimited account's key where there is no key at all. Blocks."""
        return self._keys.create_first()

    @property
    def lease(self) -> str:
        """The server's name to others on the same database, new in every process."""
        return self._lease

    @property
    def fault(self) -> StorageAway | None:
        """Why calls are refused at present, if they are."""
        return self._threads.fault

    @contextlib.asynccontextmanager
    async def serving(self, store: str) -> AsyncIterator[None]:
        """Count as alive to other servers while the block runs, and take from dead ones what they
        had in hand. On leaving it what is still to be written is waited for, some seconds.

        `store`: the id of the jobs' files. Where this server is alone on it, whatever server used
        it before must be dead.
        """
        async with self._living.on(store):
            try:
                yield
            finally:
                await self._closings.ended()

    def jobs(self, store: str) -> StoredJobs:
        """The stored jobs whose files lie in this store."""
        return _AwaitedJobs(JobStore(self._engine, store), self._threads)

    def webhooks(self, store: str) -> OwedWebhooks:
        """The webhooks that are owed for those jobs."""
        return _AwaitedWebhooks(WebhookStore(self._engine, store), self._threads)

    async def balance(self, account: Account) -> Decimal:
        """Credits left, with those that running calls have set aside.

        An unlimited account has a fixed number.
        """
        return self._shown if account.unlimited else await self._balance(account)

    async def count_call(self, account: Account) -> None:
        """Count one call against the account's minute and day; one that is refused counts nowhere.

        Raises:
            RateLimited: it has used up one of them; it says when it may call again.
        """
        if self._rates.limited:
            self._rates.check(account.id)
            await self._count_call(account.id)

    @contextlib.asynccontextmanager
    async def hold(self, account: Account, amount: Decimal) -> AsyncIterator[Hold]:
        """Set `amount` aside while the block runs.

        It is taken if the block called `settle` and ended well; otherwise it is given back. Where
        the storage is away by then, that happens as soon as it is back; nobody waits for it.

        Raises:
            NotEnoughCredits: on entry; nothing was set aside.
        """
        hold, hold_id = Hold(), uuid.uuid4().hex
        placed = taken = False

        def place() -> Decimal:
            nonlocal placed
            # Or not: if the storage fails just then, nobody knows.
            placed = True
            return self._ledger.place_hold(hold_id, account, amount, self._lease)

        try:
            had = await self._threads.write(place, always=True)()
            yield hold
            taken = hold.settled
        finally:
            if placed and not taken:
                await self._closings.close(self._release_hold(hold_id))
        if taken:
            settling = self._settle_hold(hold_id, account.id, hold.charge)
            left = await self._closings.close(settling)
            charge = amount if hold.charge is None else min(hold.charge, amount)
            hold.left = had - charge if left is None else left
        if account.unlimited:
            hold.left = self._shown


class _AwaitedJobs:
    """`server.accounting.StoredJobs`, done by a `JobStore` in threads."""

    def __init__(self, store: JobStore, threads: Threads) -> None:
        self.submit = threads.write(store.submit)
        self.has_room = threads.read(store.has_room)
        self.get = threads.read(store.get)
        self.ahead = threads.read(store.ahead)
        self.cancel = threads.write(store.cancel)
        self.any_waiting = threads.read(store.any_waiting, patient=True)
        self.waiting = threads.read(store.waiting, patient=True)
        self.claim = threads.write(store.claim, patient=True)
        self.keep = threads.write(store.keep, patient=True)
        self.complete = threads.write(store.complete, patient=True, always=True)
        self.fail = threads.write(store.fail, patient=True, always=True)
        self.put_back = threads.write(store.put_back, patient=True)
        self.expire = threads.write(store.expire, patient=True)
        self.known = threads.read(store.known, patient=True)


class _AwaitedWebhooks:
    """`server.accounting.OwedWebhooks`, done by a `WebhookStore` in threads."""

    def __init__(self, store: WebhookStore, threads: Threads) -> None:
        self.claim = threads.write(store.claim, patient=True)
        self.put_off = threads.write(store.put_off, patient=True)
        self.end = threads.write(store.end, patient=True)
