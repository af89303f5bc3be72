"""Jobs that outlive the server: accepted, claimed, ended. Blocking, one transaction each, safe from
any thread and any number of servers.

A job and the hold of its credits have one id and change together: no job is lost between them, and
none is charged twice. What is done again, since nobody knows whether it was kept, changes nothing.
"""

from collections.abc import Collection
from decimal import Decimal
from typing import Final

from sqlalchemy import Engine, Select, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from server.accounting import QueueLimits
from server.accounts import holds, job_rows
from server.accounts.database import HOLDS, JOBS
from server.accounts.job_rows import now_ms
from server.accounts.ledger import to_units
from server.errors import Busy
from server.types import JobState, StoredJob, Submission

MOST_ATTEMPTS: Final = 3
"""So often a job may be begun: one that takes the whole server with it must end some time. What was
put back does not count.
"""


class JobStore:
    """The jobs of one database that lie in one store of files."""

    def __init__(self, engine: Engine, store: str) -> None:
        """`store`: the id of the folder with the jobs' files; no server claims another's."""
        self._engine = engine
        self._reader = engine.execution_options(read_only=True)
        self._store = store

    def submit(
        self, submission: Submission, price: Decimal, limits: QueueLimits
    ) -> tuple[StoredJob, bool]:
        """Accept a job and set its price aside; the job, and whether it is new.

        One that was accepted under the same idempotency key before is given back as it stands.

        Raises:
            KeyReused: the key came with another request.
            Busy: too many jobs are open already.
            NotEnoughCredits: the account cannot pay.
        """
        try:
            with self._engine.begin() as connection:
                known = job_rows.accepted(connection, submission)
                if known is not None:
                    return known, known.id == submission.id
                account_id = submission.account_id
                holds.place(connection, submission.id, account_id, to_units(price), None)
                # After the hold, whose update locks the account's row: two servers cannot both see
                # the last room.
                if job_rows.is_full(connection, account_id, limits):
                    raise Busy
                connection.execute(insert(JOBS).values(self._row(submission)))
                return job_rows.one(connection, submission.id), True
        except IntegrityError:
            # Another server was quicker with the same key.
            with self._reader.begin() as connection:
                known = job_rows.accepted(connection, submission)
            if known is None:
                raise
            return known, known.id == submission.id

    def has_room(
        self, account_id: int, limits: QueueLimits, idempotency_key: str | None = None
    ) -> bool:
        """Whether one more job of this account would be accepted now, or one was accepted under
        this key before.
        """
        with self._reader.begin() as connection:
            if not job_rows.is_full(connection, account_id, limits):
                return True
            if idempotency_key is None:
                return False
            known = select(JOBS.c.id).where(job_rows.under_key(account_id, idempotency_key))
            return connection.scalar(known) is not None

    def get(self, job_id: str, account_id: int) -> StoredJob:
        """An account's job.

        Raises:
            UnknownRequest: there is none with this id, or it is another account's.
        """
        with self._reader.begin() as connection:
            return job_rows.own(connection, job_id, account_id)

    def ahead(self, job: StoredJob) -> int:
        """How many queued jobs were accepted before this one."""
        query = select(func.count()).where(
            JOBS.c.state == JobState.QUEUED,
            JOBS.c.store == self._store,
            (JOBS.c.created_ms < job.created_ms)
            | ((JOBS.c.created_ms == job.created_ms) & (JOBS.c.id < job.id)),
        )
        with self._reader.begin() as connection:
            return connection.scalar(query) or 0

    def any_waiting(self) -> bool:
        """Whether `claim` would find a job."""
        with self._reader.begin() as connection:
            return connection.scalar(self._next()) is not None

    def waiting(self) -> int:
        """How many jobs wait to be begun."""
        query = select(func.count()).where(
            JOBS.c.store == self._store, JOBS.c.state == JobState.QUEUED
        )
        with self._reader.begin() as connection:
            return connection.scalar(query) or 0

    def claim(self, owner: str) -> StoredJob | None:
        """Begin the next job: of the accounts with fewest at work, the oldest. None: nothing waits.

        `owner`: the lease of the server that does it.

        A job begun too often, or cancelled before its server died, fails here, at no cost.
        """
        with self._engine.begin() as connection:
            # Locked where the database locks rows.
            following = self._next().with_for_update(skip_locked=True, of=JOBS)
            while (job_id := connection.scalar(following)) is not None:
                job = job_rows.one(connection, job_id)
                if job.cancelled or job.attempts >= MOST_ATTEMPTS:
                    why, status = "Internal Server Error", 500
                    if job.cancelled:
                        why, status = job.error or why, job.error_status or status
                    failed = JobState.FAILED
                    job_rows.end(connection, job_id, failed, error=why, error_status=status)
                    holds.release(connection, HOLDS.c.id == job_id)
                    continue
                job_rows.change(
                    connection,
                    JOBS.c.id == job_id,
                    state=JobState.PROCESSING,
                    owner=owner,
                    started_ms=now_ms(),
                    attempts=job.attempts + 1,
                )
                return job_rows.one(connection, job_id)
        return None

    def keep(self, owner: str, job_ids: Collection[str]) -> set[str]:
        """These are the jobs that the owner works on: which of them are to be cancelled. Whatever
        else it has begun is queued again.
        """
        own, named = JOBS.c.owner == owner, JOBS.c.id.in_(job_ids)
        with self._engine.begin() as connection:
            job_rows.queue_again(connection, own & ~named)
            query = select(JOBS.c.id).where(own, named, JOBS.c.cancelled.is_(True))
            return set(connection.scalars(query))

    def complete(self, job_id: str, owner: str, result: str, charge: Decimal | None = None) -> bool:
        """End a job well and take its price or `charge` of it; False if it is not the owner's."""
        units = None if charge is None else to_units(charge)
        with self._engine.begin() as connection:
            completed = JobState.COMPLETED
            if not job_rows.end(connection, job_id, completed, owner=owner, result=result):
                return job_rows.has(connection, job_id, state=completed, result=result)
            holds.settle(connection, job_id, "call", units)
            return True

    def fail(self, job_id: str, owner: str, error: str, error_status: int) -> bool:
        """End a job at no cost; False if it is no longer the owner's."""
        with self._engine.begin() as connection:
            failed = JobState.FAILED
            if not job_rows.end(
                connection, job_id, failed, owner=owner, error=error, error_status=error_status
            ):
                return job_rows.has(connection, job_id, state=failed, error=error)
            holds.release(connection, HOLDS.c.id == job_id)
            return True

    def put_back(self, owner: str, job_id: str | None = None) -> None:
        """Queue again a job that this owner has begun and not ended, or all of them, as if it had
        not been begun.
        """
        begun = JOBS.c.owner == owner
        if job_id is not None:
            begun &= JOBS.c.id == job_id
        with self._engine.begin() as connection:
            job_rows.queue_again(connection, begun, attempts=JOBS.c.attempts - 1)

    def cancel(self, job_id: str, account_id: int, error: str, error_status: int) -> StoredJob:
        """End a waiting job at no cost, or ask the server that works on it to do so.

        Raises:
            UnknownRequest: there is none with this id, or it is another account's.
        """
        with self._engine.begin() as connection:
            job_rows.own(connection, job_id, account_id)
            waits = (JOBS.c.id == job_id) & (JOBS.c.state == JobState.QUEUED)
            if job_rows.change(connection, waits, cancelled=True):
                failed = JobState.FAILED
                job_rows.end(connection, job_id, failed, error=error, error_status=error_status)
                holds.release(connection, HOLDS.c.id == job_id)
            runs = (JOBS.c.id == job_id) & (JOBS.c.state == JobState.PROCESSING)
            # Whoever finds it after its server's death ends it with this.
            job_rows.change(
                connection, runs, cancelled=True, error=error, error_status=error_status
            )
            return job_rows.one(connection, job_id)

    def expire(self, finished_before_ms: int) -> list[str]:
        """Forget the jobs that ended before this, but those whose webhook is owed; the ids of the
        others, whose files can go.
        """
        ended = (JOBS.c.finished_ms < finished_before_ms) & JOBS.c.webhook_due_ms.is_(None)
        with self._engine.begin() as connection:
            query = delete(JOBS).where(JOBS.c.store == self._store, ended)
            return list(connection.scalars(query.returning(JOBS.c.id)))

    def known(self, job_ids: Collection[str]) -> set[str]:
        """Those of the ids that there are jobs of."""
        with self._reader.begin() as connection:
            return set(connection.scalars(select(JOBS.c.id).where(JOBS.c.id.in_(job_ids))))

    def _row(self, submission: Submission) -> dict[str, object]:
        return {
            "id": submission.id,
            "account_id": submission.account_id,
            "key_id": submission.key_id,
            "state": JobState.QUEUED,
            "store": self._store,
            "request": submission.request,
            "idempotency_key": submission.idempotency_key,
            "fingerprint": submission.fingerprint,
            "created_ms": now_ms(),
            "attempts": 0,
            "cancelled": False,
            "webhook_url": submission.webhook_url,
            "webhook_tries": 0,
        }

    def _next(self) -> Select[str]:
        """The job to be begun."""
        at_work = (
            select(JOBS.c.account_id, func.count().label("jobs"))
            .where(JOBS.c.state == JobState.PROCESSING)
            .group_by(JOBS.c.account_id)
            .subquery()
        )
        return (
            select(JOBS.c.id)
            .outerjoin(at_work, at_work.c.account_id == JOBS.c.account_id)
            .where(JOBS.c.store == self._store, JOBS.c.state == JobState.QUEUED)
            .order_by(func.coalesce(at_work.c.jobs, 0), JOBS.c.created_ms, JOBS.c.id)
            .limit(1)
        )
