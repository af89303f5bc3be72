"""`POST /v1/face-detailer` with an `Idempotency-Key`: sent again, it is one work and one charge.

The call goes through the queue of v2, so that a repeat finds its result; it is not stopped when its
sender hangs up, since that is what a repeat is for.
"""

import asyncio
import contextlib

from fastapi import Request

from server.accounting import Account, Accounts
from server.api.desk import Desk
from server.api.replies import Call, Delivery
from server.api.stored import StoredRequest, StoredResult
from server.api.submitting import Submitting
from server.errors import StoredFailure, TimedOut, UnknownRequest
from server.settings import Settings
from server.types import Outcome, StoredJob

_LOOK_EVERY_S = 1.0


class Once:
    """The call: accepted into the queue, waited for, answered as v1 answers."""

    def __init__(
        self, settings: Settings, accounts: Accounts, desk: Desk, submitting: Submitting
    ) -> None:
        self._patience_s = settings.request_timeout_s
        self._accounts = accounts
        self._desk = desk
        self._submitting = submitting

    async def pictures(self, request: Request) -> Delivery:
        """What was asked for; everything else leaves as an exception.

        Raises:
            TimedOut: it has not ended in time; a repeat waits for it again.
            StoredFailure: the work failed; a repeat fails alike, but after a 503.
            ServerError: any that `Submitting.accept` raises.
        """
        call: Call = request.state.call
        account: Account = request.state.account
        job, parameters = await self._submitting.accept(request, takes_webhook=False)
        try:
            async with asyncio.timeout(self._patience_s):
                job = await self._ended(job, account)
        except TimeoutError:
            raise TimedOut from None
        if job.result is None:
            raise StoredFailure(job.error or "", job.error_status or 500)
        stored, result = StoredRequest.from_json(job.request), StoredResult.from_json(job.result)
        outcome = await asyncio.to_thread(self._outcome, job.id, result)
        call.remaining = await self._accounts.balance(account)
        return Delivery(
            outcome,
            parameters.as_base64,
            stored.options.encoding.image_format,
            stored.seed,
            stored.cost if result.cost is None else result.cost,
        )

    async def _ended(self, job: StoredJob, account: Account) -> StoredJob:
        log = self._desk.events.of(job.id)
        while job.state.is_open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await log.change()
            job = await self._desk.jobs.get(job.id, account.id)
        return job

    def _outcome(self, job_id: str, result: StoredResult) -> Outcome:
        paths = [self._desk.files.result(result.token, name) for name in result.names]
        pictures = tuple(path.read_bytes() for path in paths if path is not None)
        if len(pictures) != len(paths):
            raise UnknownRequest(job_id)
        return Outcome(
            pictures=pictures,
            width_px=result.width_px,
            height_px=result.height_px,
            report=result.report,
        )
