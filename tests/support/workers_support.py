"""What the tests of the workers share: jobs, pools, and waiting."""

import asyncio
import io
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import worker_loads

from pipeline.progress import OnProgress
from pipeline.request import Recipe, Selection
from server.engine.workers import WorkerPool
from server.settings import Settings
from server.types import DetailOptions, Encoding, EngineState, Job, Outcome

_ids = itertools.count(1)


def loader(function: Callable[..., object]) -> str:
    return f"{worker_loads.__name__}:{function.__name__}"


def pixels(file: bytes) -> np.ndarray:
    return np.array(PIL.Image.open(io.BytesIO(file)))


def png(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, "PNG", compress_level=0, **options)
    return file.getvalue()


SMALL = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def job(
    prompt: str = "", picture: bytes | None = None, image_format: str = "png", **recipe: object
) -> Job:
    """`recipe`: fields of it."""
    values = {"denoise": 0.4, "negative_prompt": "", "num_inference_steps": 15, "seed": 0}
    picture = png(SMALL) if picture is None else picture
    options = DetailOptions(
        Recipe(prompt, **{**values, **recipe}), Selection(), Encoding(image_format, 95)
    )
    return Job(f"{next(_ids):032x}", picture, options)


def settings(**values: object) -> Settings:
    return Settings(**{"devices": ("cpu",), "profile": "tiny", **values})


@asynccontextmanager
async def serving(
    load: Callable[..., object] = worker_loads.inverter, **values: object
) -> AsyncIterator[WorkerPool]:
    """A pool of which every worker is ready."""
    pool = WorkerPool(settings(**values), load=loader(load))
    await pool.start()
    try:
        await until(
            lambda: (
                pool.state is EngineState.READY and all(s.process for s in pool._scheduler.slots)
            )
        )
        yield pool
    finally:
        await pool.stop()


async def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


def until_ready(client: httpx.Client, within_s: float = 120.0) -> None:
    """Wait for a server's first worker."""
    deadline = time.monotonic() + within_s
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def begun(file: Path) -> bool:
    return Path(f"{file}.begun").exists()


def stopped(file: Path) -> bool:
    return Path(f"{file}.stopped").exists()


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def detail(pool: WorkerPool, job: Job, on_progress: OnProgress | None = None) -> Outcome:
    """Do one job in a place of its own."""
    with pool.reserve() as place:
        return await place.run(job, on_progress)


async def worker_pid(pool: WorkerPool) -> int:
    outcome = await detail(pool, job())
    pid = int(outcome.seconds["pid"])
    assert pid != os.getpid()
    return pid
