"""Webhooks that are owed: kept with their jobs until they are delivered or given up. Blocking, one
transaction each, safe from any thread and any number of servers.
"""

from sqlalchemy import Engine, select

from server.accounts import job_rows
from server.accounts.database import JOBS
from server.accounts.job_rows import now_ms
from server.types import StoredJob


class WebhookStore:
    """What is owed for the jobs of one database that lie in one store of files."""

    def __init__(self, engine: Engine, store: str) -> None:
        """`store`: as of `server.accounts.jobs.JobStore`."""
        self._engine = engine
        self._reader = engine.execution_options(read_only=True)
        self._store = store

    def claim(self, lease_s: float) -> StoredJob | None:
        """The ended job whose webhook has been due for longest; None: nothing is due.

        If it is neither put off nor ended within `lease_s`, whoever took it has died, and it is due
        again.
        """
        now = now_ms()
        due = (JOBS.c.store == self._store) & (JOBS.c.webhook_due_ms <= now)
        query = select(JOBS.c.id).where(due).order_by(JOBS.c.webhook_due_ms).limit(1)
        with self._reader.begin() as connection:
            if connection.scalar(query) is None:
                return None
        with self._engine.begin() as connection:
            job_id = connection.scalar(query.with_for_update(skip_locked=True))
            if job_id is None:
                return None
            due_ms = now + int(lease_s * 1000)
            job_rows.change(connection, JOBS.c.id == job_id, webhook_due_ms=due_ms)
            return job_rows.one(connection, job_id)

    def put_off(self, job_id: str, pause_s: float, tries: int) -> None:
        """It is due again after a pause; `tries`: how many have failed."""
        due_ms = now_ms() + int(pause_s * 1000)
        with self._engine.begin() as connection:
            owed = (JOBS.c.id == job_id) & JOBS.c.webhook_due_ms.is_not(None)
            job_rows.change(connection, owed, webhook_due_ms=due_ms, webhook_tries=tries)

    def end(self, job_id: str) -> None:
        """Nothing is owed any more: it was delivered, or given up."""
        with self._engine.begin() as connection:
            job_rows.change(connection, JOBS.c.id == job_id, webhook_due_ms=None)
