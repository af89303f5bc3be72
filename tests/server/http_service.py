"""A server on loopback for the contract's tests. A plain resize does the models' work."""

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

import httpx
import numpy as np
import PIL.Image
import uvicorn
from sqlalchemy import Engine as Database

from server.accounts import Accounts
from server.app import create_app
from server.database import open_database
from server.keys import KeyRing
from server.settings import Settings
from server.types import Engine, EngineState, Job, Outcome


class ResizeEngine:
    """Serves jobs by enlarging the picture, in this process."""

    def __init__(self) -> None:
        self.state = EngineState.READY
        self.error: Exception | None = None
        self.dawdle = False
        self.kept = 0
        self.jobs: list[Job] = []
        self.cancelled = threading.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def detail(self, job: Job) -> Outcome:
        self.jobs.append(job)
        if self.error:
            raise self.error
        if self.dawdle:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return replace(await asyncio.to_thread(_enlarge, job), kept=self.kept)


def _enlarge(job: Job) -> Outcome:
    options = job.options
    picture = PIL.Image.open(io.BytesIO(job.picture)).convert("RGB")
    size = (picture.width * options.upscale, picture.height * options.upscale)
    files = []
    for sample in range(options.samples):
        file = io.BytesIO()
        shifted = picture.resize(size).point(lambda value, by=sample: min(255, value + by))
        shifted.save(file, options.image_format, quality=options.image_quality)
        files.append(file.getvalue())
    return Outcome(pictures=tuple(files), width_px=size[0], height_px=size[1])


@dataclass
class Service:
    """A running server. `client` sends no key by itself."""

    url: str
    engine: ResizeEngine
    client: httpx.Client
    keys: KeyRing

    def new_key(self, amount: str | None = None) -> str:
        return self.keys.create_account("test", None if amount is None else Decimal(amount))

    def post(self, key: str | None = None, **body: object) -> httpx.Response:
        headers = {"x-api-key": key} if key else {}
        return self.client.post("/v1/face-detailer", json=body, headers=headers)

    def credits_of(self, key: str) -> object:
        return self.client.get("/v1/get-user-credits", headers={"x-api-key": key}).json()["credits"]


@contextlib.contextmanager
def running(settings: Settings, engine: Engine | None = None) -> Iterator[Service]:
    """A server; `engine`: what does its work, else a plain resize."""
    database: Database = open_database(settings)
    accounts, engine = Accounts(database, settings), engine or ResizeEngine()
    app = create_app(settings, accounts=accounts, engine=engine)
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield Service(url, engine, client, KeyRing(database))
    finally:
        server.should_exit = True
        thread.join()
        accounts.close()


def encoded(width_px: int = 12, height_px: int = 8, image_format: str = "png") -> bytes:
    """A picture file with a gradient."""
    rows, columns = np.mgrid[0:height_px, 0:width_px]
    pixels = np.stack([rows * 20, columns * 15, rows + columns], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()
