"""The HTTP application: routes, and a call's way from the body to the reply."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from server import contract
from server.accounts import Account, Accounts
from server.bodies import media_type, read_values
from server.errors import NotEnoughCredits, NoWorker, Starting
from server.gateway import Gateway, from_http_exception
from server.parameters import DetectParameters, Parameters, parse, parse_detect
from server.pictures import PictureReader
from server.rates import RateLimit
from server.replies import Call, credits_reply, detect_reply, picture_reply, state_reply
from server.settings import Settings
from server.types import Engine, EngineState, Job, Outcome

HEALTH_PATH = "/health"
READY_PATH = "/ready"
_log = logging.getLogger(__name__)
_PUBLIC_PATHS = frozenset({HEALTH_PATH, READY_PATH})

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Shared:
    """What the calls that take a picture have in common."""

    pictures: PictureReader
    rate: RateLimit


class Detailing:
    """`POST /v1/face-detailer`: credits and rate, parameters, the work, the charge."""

    def __init__(
        self, settings: Settings, accounts: Accounts, engine: Engine, shared: Shared
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._engine = engine
        self._pictures = shared.pictures
        self._rate = shared.rate

    async def answer(self, request: Request) -> Response:
        """The pictures as asked for; everything else leaves as an exception.

        Raises:
            ServerError: any that the table in `server.replies` answers, but those of key and path.
            ClientDisconnect: the sender went away; the work was cancelled, the hold released.
        """
        call: Call = request.state.call
        account: Account = request.state.account
        media_type(request)
        if not account.unlimited and call.remaining < self._settings.cost_per_sample:
            raise NotEnoughCredits
        await self._rate.count(str(account.id))
        values = await read_values(request, self._settings.max_body_bytes)
        parameters = parse(values, self._settings)
        cost = self._settings.cost_per_sample * parameters.options.samples
        outcome = await while_connected(request, self._work(call, account, parameters, cost))
        return await run_in_threadpool(
            picture_reply,
            outcome,
            call,
            as_base64=parameters.as_base64,
            image_format=parameters.options.image_format,
            seed=parameters.seed,
            cost=cost,
        )

    async def _work(
        self, call: Call, account: Account, parameters: Parameters, cost: Decimal
    ) -> Outcome:
        picture = await self._pictures.read(parameters.image)
        upscale = contract.largest_upscale(
            parameters.options.upscale,
            max(picture.width_px, picture.height_px),
            self._settings.max_side_px,
        )
        job = Job(call.id, picture.data, replace(parameters.options, upscale=upscale))
        async with self._accounts.hold(account, cost) as hold:
            outcome = await self._engine.detail(job)
            hold.settle()
        if outcome.kept:
            _log.warning(
                "%s: faces that stay as they were, as the model gave nothing usable: %d",
                call.id,
                outcome.kept,
            )
        call.remaining = await self._accounts.balance(account)
        return outcome


class Detecting:
    """`POST /v1/face-detailer/detect`: finds faces and shows them; repaints and costs nothing."""

    def __init__(self, settings: Settings, engine: Engine, shared: Shared) -> None:
        self._settings = settings
        self._engine = engine
        self._pictures = shared.pictures
        self._rate = shared.rate

    async def answer(self, request: Request) -> Response:
        """What was found; everything else leaves as an exception.

        Raises:
            ServerError: as `Detailing.answer`, but never for credits.
            ClientDisconnect: the sender went away; the work was cancelled.
        """
        call: Call = request.state.call
        account: Account = request.state.account
        media_type(request)
        await self._rate.count(str(account.id))
        values = await read_values(request, self._settings.max_body_bytes)
        parameters = parse_detect(values, self._settings)
        outcome = await while_connected(request, self._work(call, parameters))
        return await run_in_threadpool(detect_reply, outcome, call)

    async def _work(self, call: Call, parameters: DetectParameters) -> Outcome:
        picture = await self._pictures.read(parameters.image)
        return await self._engine.detail(Job(call.id, picture.data, parameters.options))


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


def create_app(settings: Settings, *, accounts: Accounts, engine: Engine) -> FastAPI:
    """The application. It starts and stops `engine`; `accounts` stays its owner's to close."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    shared = Shared(PictureReader(settings), RateLimit(settings.rate_limit_per_minute))
    detailing = Detailing(settings, accounts, engine, shared)
    detecting = Detecting(settings, engine, shared)

    async def show_credits(request: Request) -> Response:
        return credits_reply(request.state.call)

    async def health(request: Request) -> Response:
        return state_reply("ok", request.state.call)

    async def ready(request: Request) -> Response:
        if engine.state is EngineState.STARTING:
            raise Starting
        if engine.state is not EngineState.READY:
            raise NoWorker
        return state_reply("ready", request.state.call)

    app = FastAPI(
        title="face-detailer",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: from_http_exception},
    )
    app.add_api_route(contract.PATH, detailing.answer, methods=["POST"])
    app.add_api_route(contract.DETECT_PATH, detecting.answer, methods=["POST"])
    app.add_api_route(contract.CREDITS_PATH, show_credits, methods=["GET"])
    app.add_api_route(HEALTH_PATH, health, methods=["GET", "HEAD"])
    app.add_api_route(READY_PATH, ready, methods=["GET", "HEAD"])
    app.add_middleware(Gateway, accounts=accounts, public_paths=_PUBLIC_PATHS)
    return app
