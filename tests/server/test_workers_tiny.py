"""The engine with the embedded profile's own networks."""

import asyncio
from pathlib import Path

import numpy as np
from workers_support import job, pixels, settings, until

from server.types import EngineState, Outcome
from server.workers import WorkerPool

DAMAGED = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"


def test_the_tiny_profile_finds_and_repaints_the_face_of_a_photograph() -> None:
    async def detail() -> list[Outcome]:
        pool = WorkerPool(settings())
        await pool.start()
        try:
            await until(lambda: pool.state is EngineState.READY)
            jobs = [
                job("a face", DAMAGED.read_bytes(), upscale=2, denoise=denoise, seed=5)
                for denoise in (0.4, 0.4, 0.0)
            ]
            return list(await asyncio.gather(*map(pool.detail, jobs)))
        finally:
            await pool.stop()

    first, again, untouched = asyncio.run(detail())
    height, width = pixels(DAMAGED.read_bytes()).shape[:2]
    assert (first.width_px, first.height_px) == (2 * width, 2 * height)
    assert len(first.faces) >= 1
    assert first.pictures == again.pictures
    assert not np.array_equal(pixels(first.pictures[0]), pixels(untouched.pictures[0]))
