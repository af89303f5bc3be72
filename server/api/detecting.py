"""`POST /v1/face-detailer/detect`: shows which faces count, and repaints nothing."""

from dataclasses import replace

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from server.accounting import Account, Accounts
from server.api.detailing import while_connected
from server.api.intake import Intake
from server.api.parameters import DetectParameters, check_format, parse_detect
from server.api.pictures import PictureReader
from server.api.prices import Prices
from server.api.replies import Call, detect_reply
from server.settings import Settings
from server.types import Engine, Job, Outcome, Place


class Detecting:
    """The call: credits, rate, a place; body and picture; the work, the charge."""

    def __init__(
        self,
        settings: Settings,
        accounts: Accounts,
        engine: Engine,
        intake: Intake,
        pictures: PictureReader,
    ) -> None:
        self._settings = settings
        self._price = Prices.of(settings).detect
        self._accounts = accounts
        self._engine = engine
        self._intake = intake
        self._pictures = pictures

    async def answer(self, request: Request) -> Response:
        """What was found; everything else leaves as an exception.

        Raises:
            ServerError: as `Detailing.pictures`.
            ClientDisconnect: the sender went away; the work was cancelled.
        """
        call: Call = request.state.call
        account = await self._intake.admit(request, least=self._price)
        with self._engine.reserve(account.id, "detect") as place:
            parameters = parse_detect(await self._intake.values(request), self._settings)
            image = await self._intake.resolved(request, parameters.image)
            work = self._work(place, call, account, replace(parameters, image=image))
            outcome = await while_connected(request, work)
        call.cost, call.stages = self._price, outcome.stages
        call.faces = sum(detection.rejected is None for detection in outcome.detections)
        return await run_in_threadpool(detect_reply, outcome, call)

    async def _work(
        self, place: Place, call: Call, account: Account, parameters: DetectParameters
    ) -> Outcome:
        picture = await self._pictures.read(parameters.image)
        if parameters.options.overlay:
            check_format(parameters.options.encoding, max(picture.width_px, picture.height_px))
        job = Job(call.id, picture.data, parameters.options, account.id)
        if not self._price:
            return await place.run(job)
        async with self._accounts.hold(account, self._price) as hold:
            outcome = await place.run(job)
            hold.settle()
        call.remaining = hold.left
        return outcome
