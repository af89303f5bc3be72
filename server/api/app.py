"""The HTTP application: which call answers which path."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from server.accounting import Accounts
from server.api import contract
from server.api.desk import Desk
from server.api.detailing import Detailer, Detailing
from server.api.detecting import Detecting
from server.api.draining import Draining
from server.api.events import EventLogs
from server.api.exposing import Exposing
from server.api.files import JobFiles
from server.api.following import Following
from server.api.gateway import Gateway
from server.api.intake import Intake
from server.api.methods import from_http_exception
from server.api.observing import Observing, is_probe
from server.api.once import Once
from server.api.openapi import Description
from server.api.openapi.operations import (
    ASSET_PATH,
    PAGE_ASSET_PATH,
    REQUEST_PATH,
    RESULT_PATH,
)
from server.api.page import Page
from server.api.pictures import PictureReader, reach_of
from server.api.prices import Prices
from server.api.proxies import TrustedProxies
from server.api.replies import credits_reply, picture_reply, state_reply
from server.api.runner import JobRunner
from server.api.submitting import IDEMPOTENCY_HEADER, Submitting
from server.api.uploading import Uploading
from server.api.webhooks import Webhooks, WebhookSender
from server.errors import NoWorker, Starting
from server.metrics import Metrics
from server.settings import Settings
from server.types import Engine, EngineState

_PUBLIC_PATHS = frozenset({contract.HEALTH_PATH, contract.READY_PATH})

# Spans alone, and only where OTEL_EXPORTER_OTLP_ENDPOINT says where to: the metrics are
# Prometheus', and logged exceptions would carry what clients sent.
_TELEMETRY: Final[TelemetryConfig] = {
    "auto_configure": True,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "exclude": is_probe,
}

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Calls:
    """What answers requests, put together."""

    detailing: Detailing
    once: Once
    detecting: Detecting
    submitting: Submitting
    following: Following
    uploading: Uploading
    runner: JobRunner
    webhooks: Webhooks
    files: JobFiles

    async def detail(self, request: Request) -> Response:
        """`POST /v1/face-detailer`."""
        repeatable = IDEMPOTENCY_HEADER in request.headers
        way = self.once if repeatable else self.detailing
        delivery = await way.pictures(request)
        # Base64 and JSON of large pictures take a while.
        return await run_in_threadpool(picture_reply, delivery, request.state.call)


def create_app(
    settings: Settings, *, accounts: Accounts, engine: Engine, metrics: Metrics | None = None
) -> FastAPI:
    """The application. It starts and stops `engine`; `accounts` stays its owner's to close.
    `state.ending` is an `asyncio.Event`, for whoever knows that the server is to end.

    `metrics`: what `/metrics` shows, where engine and accounts may count too.

    Raises:
        OSError: the data folder cannot be used.
    """
    metrics = metrics or Metrics()
    calls = _calls(settings, accounts, engine, metrics)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with (
            accounts.serving(calls.files.id),
            calls.webhooks.running(),
            calls.runner.running(),
        ):
            await engine.start()
            try:
                yield
            finally:
                await engine.stop()

    app = FastAPI(
        title="face-detailer",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: from_http_exception},
        telemetry=_TELEMETRY,
    )
    routes = _routes(calls, _readiness_of(engine, accounts, calls.files))
    if settings.metrics:
        routes.append(("GET HEAD", contract.METRICS_PATH, Exposing(settings, metrics).answer))
    if settings.pages:
        routes += _pages(settings)
    for methods, path, answer in routes:
        app.add_api_route(path, answer, methods=methods.split())
    app.state.ending = asyncio.Event()
    _surround(app, settings, accounts, metrics)
    return app


def _calls(settings: Settings, accounts: Accounts, engine: Engine, metrics: Metrics) -> Calls:
    files = JobFiles(settings.make_data_dir() / "requests", settings.max_stored_bytes)
    desk = Desk(accounts.jobs(files.id), files, EventLogs())
    intake, pictures = Intake(settings, accounts, files, metrics), PictureReader(settings)
    detailer = Detailer(settings, pictures)
    webhooks = Webhooks(WebhookSender(reach_of(settings)), accounts, files.id)
    runner = JobRunner(
        desk,
        engine,
        detailer.detail_stored(files),
        webhooks.wake,
        owner=accounts.lease,
        prices=Prices.of(settings),
        metrics=metrics,
        keep_s=settings.keep_results_s,
    )
    submitting = Submitting(settings, intake, engine, pictures, desk, runner)
    return Calls(
        detailing=Detailing(settings, accounts, engine, intake, detailer),
        once=Once(settings, accounts, desk, submitting),
        detecting=Detecting(settings, accounts, engine, intake, pictures),
        submitting=submitting,
        following=Following(settings, accounts, desk, runner),
        uploading=Uploading(settings, intake, pictures, files),
        runner=runner,
        webhooks=webhooks,
        files=files,
    )


def _routes(calls: Calls, readiness: Answer) -> list[tuple[str, str, Answer]]:
    """Methods, path and answer of every call."""
    following = calls.following
    return [
        ("POST", contract.PATH, calls.detail),
        ("POST", contract.DETECT_PATH, calls.detecting.answer),
        ("POST", contract.V2_PATH, calls.submitting.answer),
        ("GET HEAD", f"{REQUEST_PATH}/status", following.status),
        ("GET HEAD", f"{REQUEST_PATH}/events", following.events),
        ("POST", f"{REQUEST_PATH}/cancel", following.cancel),
        ("GET HEAD", REQUEST_PATH, following.result),
        ("DELETE", REQUEST_PATH, following.cancel),
        ("GET HEAD", RESULT_PATH, following.file),
        ("POST", contract.UPLOAD_PATH, calls.uploading.answer),
        ("GET HEAD", contract.CREDITS_PATH, _show_credits),
        ("GET HEAD", contract.HEALTH_PATH, _health),
        ("GET HEAD", contract.READY_PATH, readiness),
    ]


def _pages(settings: Settings) -> list[tuple[str, str, Answer]]:
    """The same of what people see in a browser."""
    page, description = Page(), Description(settings)
    return [
        ("GET HEAD", contract.PAGE_PATH, page.page),
        ("GET HEAD", PAGE_ASSET_PATH, page.asset),
        ("GET HEAD", contract.OPENAPI_PATH, description.document),
        ("GET HEAD", contract.DOCS_PATH, description.page),
        ("GET HEAD", ASSET_PATH, description.asset),
    ]


def _surround(app: FastAPI, settings: Settings, accounts: Accounts, metrics: Metrics) -> None:
    """What every request passes, the last one added first."""
    public_paths = _PUBLIC_PATHS
    public_below: tuple[str, ...] = (f"{contract.RESULTS_PATH}/",)
    if settings.metrics:
        public_paths |= {contract.METRICS_PATH}
    if settings.pages:
        public_paths |= {contract.PAGE_PATH, contract.OPENAPI_PATH, contract.DOCS_PATH}
        public_below += (f"{contract.PAGE_FILES_PATH}/", f"{contract.DOCS_PATH}/")
    app.add_middleware(
        Gateway, accounts=accounts, public_paths=public_paths, public_below=public_below
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*"],
            max_age=600,
        )
    app.add_middleware(Observing, metrics=metrics)
    app.add_middleware(TrustedProxies, proxies=settings.trusted_proxies)
    app.add_middleware(Draining, timeout_s=settings.body_timeout_s, ending=app.state.ending)


async def _show_credits(request: Request) -> Response:
    return credits_reply(request.state.call)


async def _health(request: Request) -> Response:
    return state_reply("ok", request.state.call)


def _readiness_of(engine: Engine, accounts: Accounts, files: JobFiles) -> Answer:
    async def ready(request: Request) -> Response:
        if engine.state is EngineState.STARTING:
            raise Starting
        if engine.state is not EngineState.READY:
            raise NoWorker
        if accounts.fault is not None:
            raise accounts.fault
        await asyncio.to_thread(files.check)
        return state_reply("ready", request.state.call)

    return ready
