"""Which servers are alive, and what those leave behind who are not. Blocking, one transaction each,
safe from any thread and any number of servers.

Every server keeps a row, its lease, and renews it. The row of one that has stopped stays for a
while, and says that its store will be served again. All times are the database's, so that servers
need not agree on the time of day.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    delete,
    insert,
    select,
    update,
)

from server.accounts import holds, job_rows
from server.accounts.clock import DatabaseNowMs
from server.accounts.database import HOLDS, JOBS, LEASES, OPEN_STATES
from server.errors import PASSING
from server.types import JobState

LEASE_S: Final = 20.0
"""A server that has not renewed its lease for so long counts as dead."""

_ABANDONED: Final = "The server that had this request is gone"


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What dead servers had in hand: holds of credits that came back, jobs that are queued again,
    and jobs that failed since nobody has their files any more.
    """

    holds: int = 0
    jobs: int = 0
    abandoned: int = 0


class Leases:
    """One server's lease, and its view of the others'."""

    def __init__(self, engine: Engine, lease_id: str) -> None:
        self._engine = engine
        self._id = lease_id

    def begin(self, store: str) -> Leftovers:
        """Take the lease, and what earlier servers on the store have left: they must be dead."""
        with self._engine.begin() as connection:
            earlier = (LEASES.c.store == store) & (LEASES.c.id != self._id)
            dead = select(LEASES.c.id).where(earlier)
            released = holds.release(connection, HOLDS.c.lease_id.in_(dead))
            begun = (JOBS.c.store == store) & (JOBS.c.owner.is_distinct_from(self._id))
            queued = job_rows.queue_again(connection, begun)
            connection.execute(delete(LEASES).where(earlier))
            self._beat(connection, store)
        return Leftovers(released, queued)

    def join(self, store: str) -> Leftovers:
        """Take the lease beside other servers on the store, of which some may be dead: what those
        have left is found when they have not renewed theirs.
        """
        self.renew(store)
        return Leftovers()

    def renew(self, store: str) -> None:
        """Count as alive for longer."""
        with self._engine.begin() as connection:
            self._beat(connection, store)

    def clear_up(self, keep_s: float) -> Leftovers:
        """Take from dead servers what they had in hand.

        Jobs whose files lie where no server has been for `keep_s` fail at no cost. Nothing is taken
        unless this server's own lease is fresh: if it is not, the database was away, and the others
        could not renew theirs either.
        """
        dead = LEASES.c.beat_ms <= _ago(LEASE_S)
        with self._engine.begin() as connection:
            living = select(LEASES.c.id).where(~dead)
            if connection.scalar(living.where(LEASES.c.id == self._id)) is None:
                return Leftovers()
            released = holds.release(connection, HOLDS.c.lease_id.not_in(living))
            queued = job_rows.queue_again(connection, JOBS.c.owner.not_in(living))
            abandoned = _fail_abandoned(connection, max(keep_s, LEASE_S))
            connection.execute(delete(LEASES).where(LEASES.c.beat_ms <= _ago(keep_s), dead))
        return Leftovers(released, queued, abandoned)

    def _beat(self, connection: Connection, store: str) -> None:
        own = LEASES.c.id == self._id
        if not connection.execute(
            update(LEASES).where(own).values(beat_ms=DatabaseNowMs())
        ).rowcount:
            row = {"id": self._id, "store": store, "beat_ms": DatabaseNowMs()}
            connection.execute(insert(LEASES).values(row))


def _ago(seconds: float) -> ColumnElement[int]:
    return DatabaseNowMs() - int(seconds * 1000)


def _fail_abandoned(connection: Connection, keep_s: float) -> int:
    served: Select[str] = select(LEASES.c.store).where(LEASES.c.beat_ms > _ago(keep_s))
    is_open = JOBS.c.state.in_(OPEN_STATES) & (JOBS.c.created_ms <= _ago(keep_s))
    query = select(JOBS.c.id).where(is_open, JOBS.c.store.not_in(served))
    failed = 0
    for job_id in connection.scalars(query).all():
        state, status = JobState.FAILED, PASSING
        if job_rows.end(connection, job_id, state, error=_ABANDONED, error_status=status):
            holds.release(connection, HOLDS.c.id == job_id)
            failed += 1
    return failed
