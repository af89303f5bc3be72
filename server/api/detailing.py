"""`POST /v1/face-detailer`: the picture comes, waits for its work and goes back in one call."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from pipeline.progress import OnProgress
from server.accounting import Account, Accounts
from server.api.files import JobFiles
from server.api.intake import Intake
from server.api.json_bodies import SentImage
from server.api.parameters import fit, parse
from server.api.pictures import CheckedPicture, PictureReader
from server.api.prices import Prices, work_of
from server.api.replies import Call, Delivery
from server.api.stored import StoredRequest
from server.api.working import Detail
from server.settings import Settings
from server.types import DetailOptions, Engine, Job, Outcome, Place, StoredJob

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture whose header was read, and the options that it may have."""

    picture: CheckedPicture
    options: DetailOptions

    @property
    def pixels(self) -> int:
        """Of the picture."""
        return self.picture.width_px * self.picture.height_px


class Detailer:
    """Has one picture's faces detailed in a place of the engine."""

    def __init__(self, settings: Settings, pictures: PictureReader) -> None:
        self._max_side_px = settings.max_side_px
        self._pictures = pictures

    async def prepare(self, image: SentImage, options: DetailOptions) -> Prepared:
        """Get the picture that `image` names or holds.

        Raises:
            BadImage, TooLarge: the picture cannot be had or read.
            BadParameter: the format does not hold the result.
        """
        picture = await self._pictures.read(image)
        longer_side_px = max(picture.width_px, picture.height_px)
        return Prepared(picture, fit(options, longer_side_px, self._max_side_px))

    async def detail(
        self,
        place: Place,
        job_id: str,
        account_id: int,
        prepared: Prepared,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        """Do the work.

        Raises:
            ServerError: any that `Place.run` raises.
        """
        job = Job(job_id, prepared.picture.data, prepared.options, account_id)
        outcome = await place.run(job, on_progress)
        report = outcome.report
        if report.unchanged:
            _log.warning(
                "%s: faces that stay as they were, as the model gave nothing usable: %d",
                job_id,
                report.unchanged,
            )
        if report.left_out:
            _log.info("%s: faces left out: %s", job_id, report.left_out_text)
        if report.identity:
            _log.info("%s: identity of the repainted faces: %s", job_id, report.identity_text)
        for text in report.unread:
            _log.warning("%s: the prompt is too long, this was not read: %s", job_id, text)
        return outcome

    def detail_stored(self, files: JobFiles) -> Detail:
        """How `server.api.working` has a job done: its picture lies in `files` or behind a URL."""

        async def detail(
            place: Place, job: StoredJob, request: StoredRequest, on_progress: OnProgress
        ) -> Outcome:
            image: SentImage
            if request.image_url is None:
                image = await asyncio.to_thread(files.input, job.id)
            else:
                image = request.image_url
            prepared = await self.prepare(image, request.options)
            return await self.detail(place, job.id, job.account_id, prepared, on_progress)

        return detail


class Detailing:
    """The call: credits, rate, a place; body and picture; the work, the charge."""

    def __init__(
        self,
        settings: Settings,
        accounts: Accounts,
        engine: Engine,
        intake: Intake,
        detailer: Detailer,
    ) -> None:
        self._settings = settings
        self._prices = Prices.of(settings)
        self._accounts = accounts
        self._engine = engine
        self._intake = intake
        self._detailer = detailer

    async def pictures(self, request: Request) -> Delivery:
        """What was asked for; everything else leaves as an exception.

        Raises:
            ServerError: any in the table of `server.api.replies`, but those of key and path.
            ClientDisconnect: the sender went away; the work was cancelled, the hold released.
        """
        call: Call = request.state.call
        account = await self._intake.admit(request, least=self._prices.least)
        with self._engine.reserve(account.id) as place:
            parameters = parse(await self._intake.values(request), self._settings)
            image = await self._intake.resolved(request, parameters.image)
            work = self._work(place, call, account, image, parameters.options)
            # Not kept while the work waits for its turn: as base64 it is larger than the picture.
            parameters = replace(parameters, image=b"")
            del image
            outcome, cost = await while_connected(request, work)
        call.cost, call.faces, call.stages = cost, outcome.report.detailed, outcome.stages
        return Delivery(
            outcome,
            parameters.as_base64,
            parameters.options.encoding.image_format,
            parameters.seed,
            cost,
        )

    async def _work(
        self,
        place: Place,
        call: Call,
        account: Account,
        image: SentImage,
        options: DetailOptions,
    ) -> tuple[Outcome, Decimal]:
        """What came of it, and what it costs."""
        prepared = await self._detailer.prepare(image, options)
        del image
        most = self._prices.most(prepared.options, prepared.pixels)
        async with self._accounts.hold(account, most) as hold:
            outcome = await self._detailer.detail(place, call.id, account.id, prepared)
            cost = self._prices.charge(work_of(outcome))
            hold.settle(cost)
        call.remaining = hold.left
        return outcome, cost


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the sender goes away.

    The request's body must have been read to its end.

    Raises:
        ClientDisconnect: the sender went away first.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
