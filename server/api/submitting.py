"""`POST /v2/face-detailer`: a request is accepted, and its work comes later."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Final

from fastapi import Request, Response

from server.accounting import QueueLimits
from server.api.desk import Desk
from server.api.intake import Intake
from server.api.parameters import Parameters, fit, parse, parse_webhook_url
from server.api.pictures import PictureReader
from server.api.prices import Prices
from server.api.proxies import base_url
from server.api.replies import Call, json_reply
from server.api.replies_v2 import submitted_body
from server.api.runner import JobRunner
from server.api.stored import StoredRequest
from server.api.tracing import traceparent
from server.errors import (
    BadParameter,
    Busy,
    KeyReused,
    NotEnoughCredits,
    NoWorker,
    StorageAway,
)
from server.settings import Settings
from server.types import DetailOptions, Engine, EngineState, StoredJob, Submission

IDEMPOTENCY_HEADER: Final = "idempotency-key"
_LONGEST_KEY: Final = 255


class Submitting:
    """Accepts requests into the queue."""

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        engine: Engine,
        pictures: PictureReader,
        desk: Desk,
        runner: JobRunner,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._engine = engine
        self._pictures = pictures
        self._desk = desk
        self._runner = runner
        self._prices = Prices.of(settings)
        self._limits = QueueLimits(settings.max_stored_jobs_per_account, settings.max_stored_jobs)

    async def answer(self, request: Request) -> Response:
        """Where the request can be followed.

        Raises:
            ServerError: any that `accept` raises.
        """
        call: Call = request.state.call
        job, _ = await self.accept(request, takes_webhook=True)
        base = base_url(request, self._settings.public_base_url)
        body = submitted_body(job, base)
        return json_reply(body, call)

    async def accept(
        self, request: Request, *, takes_webhook: bool
    ) -> tuple[StoredJob, Parameters]:
        """Store a request, its price set aside; the one known under its idempotency key, if any.

        `takes_webhook`: whether `webhook_url` is one of the fields.

        Raises:
            BadContentType, NotEnoughCredits, RateLimited, Busy, NoWorker, BadParameter, BadImage,
            TooLarge, StorageFull, KeyReused: it is not accepted, and nothing of it is kept.
        """
        call: Call = request.state.call
        # A request sent again costs nothing: whether the account can pay is seen with its key.
        repeatable = IDEMPOTENCY_HEADER in request.headers
        least = Decimal(0) if repeatable else self._prices.least
        account = await self._intake.admit(request, least=least)
        if self._engine.state is EngineState.DEAD:
            raise NoWorker
        key = _idempotency_key(request)
        if not await self._desk.jobs.has_room(account.id, self._limits, key):
            raise Busy
        values = await self._intake.values(request)
        parameters = parse(values, self._settings)
        image = await self._intake.resolved(request, parameters.image)
        parameters = replace(parameters, image=image)
        webhook_url = parse_webhook_url(values, self._settings) if takes_webhook else None
        image_url = picture = self._pictures.url_of(parameters.image)
        # Whatever size the picture behind a URL turns out to have.
        options, pixels = parameters.options, self._settings.max_image_pixels
        if picture is None:
            picture, options, pixels = await self._keep_input(call.id, parameters)
        stored = StoredRequest(
            options=parameters.options,
            seed=parameters.seed,
            cost=self._prices.most(options, pixels),
            base_url=base_url(request, self._settings.public_base_url),
            image_url=image_url,
            traceparent=traceparent(),
        )
        asked = {**parameters.asked, "picture": picture, "webhook_url": webhook_url}
        submission = Submission(
            id=call.id,
            account_id=account.id,
            key_id=account.key_id,
            request=stored.to_json(),
            idempotency_key=key,
            fingerprint=None if key is None else _fingerprint(asked),
            webhook_url=webhook_url,
        )
        return await self._submit(submission, stored), parameters

    async def _submit(self, submission: Submission, stored: StoredRequest) -> StoredJob:
        drop_input = partial(asyncio.to_thread, self._desk.files.drop, "inputs", submission.id)
        try:
            job, new = await self._desk.jobs.submit(submission, stored.cost, self._limits)
        except (Busy, KeyReused, NotEnoughCredits):
            # After any other end the job may have been accepted all the same, and needs its
            # picture; one that no job needs is swept up.
            await drop_input()
            raise
        if not new:
            await drop_input()
            return job
        # Accepted, even if the storage is away just now; who follows it is told its place.
        with contextlib.suppress(StorageAway):
            place = await self._desk.jobs.ahead(job)
            log = self._desk.events.of(job.id)
            # Else it was begun meanwhile.
            if log.is_waiting:
                log.add("queued", {"place": place})
        self._runner.wake()
        return job

    async def _keep_input(
        self, job_id: str, parameters: Parameters
    ) -> tuple[str, DetailOptions, int]:
        """See that the picture can be read and its result written, and keep it; its SHA-256, the
        options that it may have, and its pixels.
        """
        picture = await self._pictures.read(parameters.image)
        longer_side_px = max(picture.width_px, picture.height_px)
        options = fit(parameters.options, longer_side_px, self._settings.max_side_px)
        await asyncio.to_thread(self._desk.files.put_input, job_id, picture.data)
        sha256 = await asyncio.to_thread(_sha256, picture.data)
        return sha256, options, picture.width_px * picture.height_px


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return None
    key = key.strip()
    if not key or len(key) > _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise BadParameter(
            f"Idempotency-Key should have 1 to {_LONGEST_KEY} printable ASCII characters"
        )
    return key


def _fingerprint(asked: Mapping[str, object]) -> str:
    """What tells requests apart: their values and their picture, however those were written."""
    return _sha256(json.dumps(asked, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
