"""What the API asks of accounts: who calls, what they have left, and the jobs that they stored."""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from server.errors import StorageAway
from server.types import StoredJob, Submission


@dataclass(frozen=True, slots=True)
class Account:
    """Who a key belongs to. `key_id`: which of the account's keys that was."""

    id: int
    unlimited: bool
    key_id: int


@dataclass(frozen=True, slots=True)
class KeyWebhook:
    """A key's own webhook, if it has one; its secret, which signs all deliveries; its account."""

    url: str | None
    secret: str
    account: Account


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many jobs may be open, QUEUED or PROCESSING, of one account and of all."""

    per_account: int
    total: int


class Hold:
    """Credits set aside for one call.

    `charge`: what is to be taken of them; None: all. `left`: what the account has when the block
    was left.
    """

    def __init__(self) -> None:
        self.settled = False
        self.charge: Decimal | None = None
        self.left = Decimal(0)

    def settle(self, charge: Decimal | None = None) -> None:
        """The call has succeeded: credits are taken when the `async with` block is left, never more
        than were set aside.
        """
        self.settled = True
        self.charge = charge


class Accounts(Protocol):
    """Who may call, and what they have left.

    Whatever is awaited here and of the parts below may raise `StorageAway`, if the database cannot
    be read or written and does not recover within some seconds, unless it says that it waits.
    """

    @property
    def lease(self) -> str:
        """The server's name to others on the same database, new in every process."""

    @property
    def fault(self) -> StorageAway | None:
        """Why calls are refused at present, if they are."""

    def serving(self, store: str) -> AbstractAsyncContextManager[None]:
        """Count as alive to other servers while the block runs, and take from dead ones what they
        had in hand. On leaving it what is still to be written is waited for, some seconds.

        `store`: the id of the jobs' files. Whatever server used it before must be dead.
        """

    async def authenticate(self, key: str) -> Account:
        """Whose key this is.

        Raises:
            BadKey: unknown or revoked.
        """

    async def balance(self, account: Account) -> Decimal:
        """Credits left, with those that running calls have set aside.

        An unlimited account has a fixed number.
        """

    async def count_call(self, account: Account) -> None:
        """Count one call against the account's minute and day; one that is refused counts nowhere.

        Raises:
            RateLimited: it has used up one of them; it says when it may call again.
        """

    def hold(self, account: Account, amount: Decimal) -> AbstractAsyncContextManager[Hold]:
        """Set `amount` aside while the block runs.

        It is taken if the block called `settle` and ended well; otherwise it is given back. Where
        the storage is away by then, that happens as soon as it is back; nobody waits for it.

        Raises:
            NotEnoughCredits: on entry; nothing was set aside.
        """

    async def webhook(self, key_id: int) -> KeyWebhook:
        """Where the ends of a key's stored jobs are told."""

    def jobs(self, store: str) -> "StoredJobs":
        """The stored jobs whose files lie in this store."""

    def webhooks(self, store: str) -> "OwedWebhooks":
        """The webhooks that are owed for those jobs."""


class StoredJobs(Protocol):
    """Jobs that outlive the server. A job and its price change together: none is lost, and none is
    charged twice. What the runner of jobs calls waits for as long as the storage is away.
    """

    async def submit(
        self, submission: Submission, price: Decimal, limits: QueueLimits
    ) -> tuple[StoredJob, bool]:
        """Accept a job and set its price aside; the job, and whether it is new.

        One that was accepted under the same idempotency key before is given back as it stands.

        Raises:
            KeyReused: the key came with another request.
            Busy: too many jobs are open already.
            NotEnoughCredits: the account cannot pay.
        """

    async def has_room(
        self, account_id: int, limits: QueueLimits, idempotency_key: str | None = None
    ) -> bool:
        """Whether one more job of this account would be accepted now, or one was accepted under
        this key before.
        """

    async def get(self, job_id: str, account_id: int) -> StoredJob:
        """An account's job.

        Raises:
            UnknownRequest: there is none with this id, or it is another account's.
        """

    async def ahead(self, job: StoredJob) -> int:
        """How many queued jobs were accepted before this one."""

    async def any_waiting(self) -> bool:
        """Whether `claim` would find a job. Waits for the storage."""

    async def waiting(self) -> int:
        """How many jobs wait to be begun. Waits for the storage."""

    async def claim(self, owner: str) -> StoredJob | None:
        """Begin the next job: of the accounts with fewest at work, the oldest. None: nothing waits.
        Waits for the storage.

        A job begun too often, or cancelled before its server died, fails here, at no cost. `owner`:
        the lease of the server that does it.
        """

    async def keep(self, owner: str, job_ids: Collection[str]) -> set[str]:
        """These are the jobs that the owner works on: which of them are to be cancelled. Whatever
        else it has begun is queued again. Waits for the storage.
        """

    async def complete(
        self, job_id: str, owner: str, result: str, charge: Decimal | None = None
    ) -> bool:
        """End a job well and take its price or `charge` of it; False if it is no longer the
        owner's. Waits for the storage.
        """

    async def fail(self, job_id: str, owner: str, error: str, error_status: int) -> bool:
        """End a job at no cost; False if it is no longer the owner's. Waits for the storage."""

    async def put_back(self, owner: str, job_id: str | None = None) -> None:
        """Queue again a job that this owner has begun and not ended, or all of them, as if it had
        not been begun. Waits for the storage.
        """

    async def cancel(
        self, job_id: str, account_id: int, error: str, error_status: int
    ) -> StoredJob:
        """End a waiting job at no cost, or ask the server that works on it to do so.

        Raises:
            UnknownRequest: there is none with this id, or it is another account's.
        """

    async def expire(self, finished_before_ms: int) -> list[str]:
        """Forget the jobs that ended before this, but those whose webhook is owed; the ids of the
        others, whose files can go. Waits for the storage.
        """

    async def known(self, job_ids: Collection[str]) -> set[str]:
        """Those of the ids that there are jobs of. Waits for the storage."""


class OwedWebhooks(Protocol):
    """Whom to tell of the end of stored jobs, until that was done or given up. Every call waits for
    as long as the storage is away.
    """

    async def claim(self, lease_s: float) -> StoredJob | None:
        """The ended job whose webhook has been due for longest; None: nothing is due.

        If it is neither put off nor ended within `lease_s`, whoever took it has died, and it is due
        again.
        """

    async def put_off(self, job_id: str, pause_s: float, tries: int) -> None:
        """It is due again after a pause; `tries`: how many have failed."""

    async def end(self, job_id: str) -> None:
        """Nothing is owed any more: it was delivered, or given up."""
