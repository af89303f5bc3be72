"""What the runner of stored jobs and the calls about them share, and how it is kept tidy."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from server.accounting import StoredJobs
from server.api.events import EventLogs
from server.api.files import JobFiles

_SWEEP_EVERY_S: Final = 60.0
# A job is accepted seconds after its picture was written, or never.
_LEFTOVER_S: Final = 600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """Jobs, their files and what happens to them."""

    jobs: StoredJobs
    files: JobFiles
    events: EventLogs


async def sweep(desk: Desk, keep_s: float) -> None:
    """Delete now and then what is kept no longer than `keep_s`; never returns."""
    while True:
        try:
            await _delete_old(desk, keep_s)
        except Exception:  # noqa: BLE001 - the loop outlives whatever happens
            _log.exception("old jobs cannot be deleted")
        await asyncio.sleep(_SWEEP_EVERY_S)


async def _delete_old(desk: Desk, keep_s: float) -> None:
    jobs, files = desk.jobs, desk.files
    for job_id in await jobs.expire(int((time.time() - keep_s) * 1000)):
        desk.events.forget(job_id)
    # A waiting job's picture may be older than any result; one without a job is a leftover.
    inputs = await asyncio.to_thread(files.older_than, "inputs", min(keep_s, _LEFTOVER_S))
    leftovers = set(inputs) - await jobs.known(inputs)
    for name in leftovers:
        await asyncio.to_thread(files.drop, "inputs", name)
    for kind in ("results", "assets"):
        for name in await asyncio.to_thread(files.older_than, kind, keep_s):
            await asyncio.to_thread(files.drop, kind, name)
    # Other servers on the folder write and delete too.
    await asyncio.to_thread(files.measure)
