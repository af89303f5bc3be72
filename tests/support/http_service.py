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
from sqlalchemy import select

from pipeline.progress import OnProgress, Progress, Step
from pipeline.report import Report
from pipeline.types import Detection, FaceBox
from server.accounts.database import JOBS, OPEN_STATES, open_database
from server.accounts.keys import KeyRing
from server.accounts.service import AccountService
from server.api.app import create_app
from server.metrics import Metrics
from server.settings import Settings
from server.types import DetectOptions, Engine, EngineState, Job, Outcome, Place

# Longer than any test looks at a job that dawdles, heartbeats of its events included.
_DAWDLE_S = 300.0


class ResizeEngine:
    """Serves jobs by enlarging the picture, in this process; it has places without end."""

    def __init__(self) -> None:
        self.state = EngineState.READY
        self.error: Exception | None = None
        self.dawdle = False
        self.report = Report(found=1, detailed=1)
        self.jobs: list[Job] = []
        self.cancelled = threading.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    @property
    def capacity(self) -> int:
        return 4

    def reserve(
        self, _account_id: int | None = None, _kind: str = "detail"
    ) -> contextlib.AbstractContextManager[Place]:
        return contextlib.nullcontext(self)

    async def run(self, job: Job, on_progress: OnProgress | None = None) -> Outcome:
        self.jobs.append(job)
        if on_progress is not None:
            on_progress(Progress("detecting"))
            on_progress(Progress("found", faces=1))
            on_progress(Progress("detail", 1, Step(1, 1, 1, 2), done=1, total=2, share=0.4))
        if self.error:
            raise self.error
        if isinstance(job.options, DetectOptions):
            return _one_face(job)
        if self.dawdle:
            try:
                await asyncio.sleep(_DAWDLE_S)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        outcome = await asyncio.to_thread(_enlarge, job)
        return replace(outcome, report=self.report)


def _one_face(job: Job) -> Outcome:
    """A face of half the picture's size is found, in its middle."""
    with PIL.Image.open(io.BytesIO(job.picture)) as picture:
        width, height = picture.size
    box = FaceBox(width / 4, height / 4, 3 * width / 4, 3 * height / 4, 0.9)
    return Outcome((), width, height, detections=(Detection(box),))


def _enlarge(job: Job) -> Outcome:
    recipe, encoding = job.options.recipe, job.options.encoding
    picture = PIL.Image.open(io.BytesIO(job.picture)).convert("RGB")
    size = (picture.width * recipe.upscale, picture.height * recipe.upscale)
    files = []
    for sample in range(recipe.samples):
        file = io.BytesIO()
        shifted = picture.resize(size).point(lambda value, by=sample: min(255, value + by))
        shifted.save(file, encoding.image_format, quality=encoding.image_quality)
        files.append(file.getvalue())
    return Outcome(pictures=tuple(files), width_px=size[0], height_px=size[1])


async def _jobs_told() -> None:
    """Wait for the tasks of stored jobs, in the server's loop."""
    told = [task for task in asyncio.all_tasks() if task.get_name().startswith("job ")]
    await asyncio.gather(*told, return_exceptions=True)


@dataclass
class Service:
    """A running server. `client` sends no key by itself. `loop`: the server's own."""

    url: str
    engine: ResizeEngine
    client: httpx.Client
    keys: KeyRing
    database: Database
    loop: asyncio.AbstractEventLoop

    def until_idle(self, timeout_s: float = 60) -> None:
        """Wait for the end of every stored job, and until it is told.

        Raises:
            TimeoutError: a job has not ended by then.
        """
        open_jobs = select(JOBS.c.id).where(JOBS.c.state.in_(OPEN_STATES)).limit(1)
        deadline = time.monotonic() + timeout_s
        while True:
            with self.database.begin() as connection:
                if connection.scalar(open_jobs) is None:
                    break
            if time.monotonic() > deadline:
                raise TimeoutError("a stored job has not ended")
            time.sleep(0.02)
        # Log, metrics, events and files hear of an end after the database.
        asyncio.run_coroutine_threadsafe(_jobs_told(), self.loop).result(timeout_s)

    def new_key(self, amount: str | None = None) -> str:
        return self.keys.create_account("test", None if amount is None else Decimal(amount))

    def post(self, key: str | None = None, **body: object) -> httpx.Response:
        headers = {"x-api-key": key} if key else {}
        return self.client.post("/v1/face-detailer", json=body, headers=headers)

    def credits_of(self, key: str) -> object:
        return self.client.get("/v1/get-user-credits", headers={"x-api-key": key}).json()["credits"]


@contextlib.contextmanager
def running(
    settings: Settings, engine: Engine | None = None, metrics: Metrics | None = None
) -> Iterator[Service]:
    """A server; `engine`: what does its work, else a plain resize; `metrics`: where they count."""
    database: Database = open_database(settings)
    accounts, engine = AccountService(database, settings), engine or ResizeEngine()
    metrics = metrics or Metrics()
    accounts.report_to(metrics)
    app = create_app(settings, accounts=accounts, engine=engine, metrics=metrics)
    options = {"log_config": None, "access_log": False, "ws": "none", "proxy_headers": False}
    # As `face-detailer serve` has them, whatever else is installed.
    options |= {"loop": "asyncio", "http": "h11"}
    config = uvicorn.Config(app, port=0, timeout_graceful_shutdown=1, **options)
    server = uvicorn.Server(config)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield Service(url, engine, client, KeyRing(database), database, loops[0])
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
