"""A server's heartbeat, and its care for what dead servers leave behind."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from server.accounts.leases import LEASE_S, Leases, Leftovers
from server.accounts.threads import Threads

_BEAT_EVERY_S: Final = LEASE_S / 5
_log = logging.getLogger(__name__)


class Living:
    """Keeps one lease while it is served under."""

    def __init__(self, leases: Leases, threads: Threads, keep_s: float, *, alone: bool) -> None:
        """`keep_s`: after so long without a server, the jobs of a store are given up. `alone`:
        whether no other server uses the store.
        """
        self._begin = threads.write(leases.begin if alone else leases.join, always=True)
        self._renew = threads.write(leases.renew, patient=True, always=True)
        self._clear_up = threads.write(leases.clear_up, patient=True)
        self._keep_s = keep_s

    @contextlib.asynccontextmanager
    async def on(self, store: str) -> AsyncIterator[None]:
        """Be alive while the block runs."""
        _tell(await self._begin(store))
        beating = asyncio.create_task(self._beat(store), name="heartbeat")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait({beating})

    async def _beat(self, store: str) -> None:
        steady_since = renewed = time.monotonic()
        while True:
            await asyncio.sleep(_BEAT_EVERY_S)
            try:
                await self._renew(store)
                before, renewed = renewed, time.monotonic()
                if renewed - before > 2 * _BEAT_EVERY_S:
                    # While the database was away nobody could renew: the living need a moment to.
                    steady_since = renewed
                if renewed - steady_since > LEASE_S:
                    _tell(await self._clear_up(self._keep_s))
            except Exception:  # noqa: BLE001 - the heart goes on
                _log.exception("the lease cannot be renewed, or what dead servers left be taken")


def _tell(found: Leftovers) -> None:
    if found.holds:
        _log.warning("gave back %d holds of credits that a dead server left behind", found.holds)
    if found.jobs:
        _log.warning("%d stored jobs of a server that died begin again", found.jobs)
    if found.abandoned:
        _log.warning("%d stored jobs whose server is gone for good have failed", found.abandoned)
