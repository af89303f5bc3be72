"""Rows of the table of jobs, read and changed inside a transaction of the caller's."""

import time

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select, update

from server.accounting import QueueLimits
from server.accounts.database import JOBS, KEYS, OPEN_STATES
from server.errors import PASSING, KeyReused, UnknownRequest
from server.types import JobState, StoredJob, Submission


def now_ms() -> int:
    """The time as the table keeps it: Unix milliseconds."""
    return time.time_ns() // 1_000_000


def first(connection: Connection, query: Select[*tuple[object, ...]]) -> StoredJob | None:
    """The first job that a query over the whole table gives."""
    row = connection.execute(query).first()
    return None if row is None else _stored(row)


def one(connection: Connection, job_id: str) -> StoredJob:
    """A job that must be there."""
    return _stored(connection.execute(select(JOBS).where(JOBS.c.id == job_id)).one())


def own(connection: Connection, job_id: str, account_id: int) -> StoredJob:
    """An account's job.

    Raises:
        UnknownRequest: there is none with this id, or it is another account's.
    """
    condition = (JOBS.c.id == job_id) & (JOBS.c.account_id == account_id)
    job = first(connection, select(JOBS).where(condition))
    if job is None:
        raise UnknownRequest(job_id)
    return job


def accepted(connection: Connection, submission: Submission) -> StoredJob | None:
    """The job that was accepted under the submission's idempotency key before; or its own, where
    that was kept and the word of it lost.

    Raises:
        KeyReused: the key came with another request.
    """
    condition = JOBS.c.id == submission.id
    if submission.idempotency_key is not None:
        condition |= under_key(submission.account_id, submission.idempotency_key)
    row = connection.execute(select(JOBS).where(condition)).first()
    if row is None:
        return None
    if row.fingerprint != submission.fingerprint:
        raise KeyReused
    return _stored(row)


def under_key(account_id: int, idempotency_key: str) -> ColumnElement[bool]:
    """The condition that a job was accepted under this key of the account's."""
    return (JOBS.c.account_id == account_id) & (JOBS.c.idempotency_key == idempotency_key)


def has(connection: Connection, job_id: str, **values: object) -> bool:
    """Whether a job has these values."""
    query = select(JOBS.c.id).where(JOBS.c.id == job_id).filter_by(**values)
    return connection.scalar(query) is not None


def is_full(connection: Connection, account_id: int, limits: QueueLimits) -> bool:
    """Whether as many jobs are open as may be, or as many of the account's."""
    is_open = JOBS.c.state.in_(OPEN_STATES)
    of_all = connection.scalar(select(func.count()).where(is_open)) or 0
    own = is_open & (JOBS.c.account_id == account_id)
    of_account = connection.scalar(select(func.count()).where(own)) or 0
    return of_all >= limits.total or of_account >= limits.per_account


def change(connection: Connection, condition: ColumnElement[bool], **values: object) -> int:
    """Change every row that meets the condition; how many those were."""
    return connection.execute(update(JOBS).where(condition).values(**values)).rowcount


def end(
    connection: Connection,
    job_id: str,
    state: JobState,
    *,
    owner: str | None = None,
    error: str | None = None,
    error_status: int | None = None,
    result: str | None = None,
) -> bool:
    """End an open job; False where it has ended, or is not `owner`'s, if one is named.

    Whoever is to be told of it is owed a webhook from now on. What failed for a reason that passes
    (503) gives its idempotency key back: a repeat begins anew.
    """
    now = now_ms()
    keys_own = select(KEYS.c.webhook_url).where(KEYS.c.id == JOBS.c.key_id).scalar_subquery()
    is_told = func.coalesce(JOBS.c.webhook_url, keys_own).is_not(None)
    condition = (JOBS.c.id == job_id) & JOBS.c.state.in_(OPEN_STATES)
    if owner is not None:
        condition &= JOBS.c.owner == owner
    ended = change(
        connection,
        condition,
        state=state,
        error=error,
        error_status=error_status,
        result=result,
        finished_ms=now,
        webhook_due_ms=case((is_told, now), else_=None),
        owner=None,
        **({"idempotency_key": None} if error_status == PASSING else {}),
    )
    return ended == 1


def queue_again(connection: Connection, condition: ColumnElement[bool], **values: object) -> int:
    """Queue again what meets the condition and was begun, with these values; how many jobs those
    were.
    """
    begun = condition & (JOBS.c.state == JobState.PROCESSING)
    return change(connection, begun, state=JobState.QUEUED, owner=None, **values)


def _stored(row: Row[*tuple[object, ...]]) -> StoredJob:
    columns = row._mapping  # noqa: SLF001 - the documented way to a row's columns by name
    return StoredJob(
        id=columns["id"],
        account_id=columns["account_id"],
        key_id=columns["key_id"],
        state=JobState(columns["state"]),
        request=columns["request"],
        created_ms=columns["created_ms"],
        started_ms=columns["started_ms"],
        finished_ms=columns["finished_ms"],
        attempts=columns["attempts"],
        cancelled=columns["cancelled"],
        error=columns["error"],
        error_status=columns["error_status"],
        result=columns["result"],
        webhook_url=columns["webhook_url"],
        webhook_tries=columns["webhook_tries"],
    )
