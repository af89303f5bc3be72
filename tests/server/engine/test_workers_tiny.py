"""The engine with the embedded profile's own networks."""

import asyncio
import base64
from pathlib import Path

import numpy as np
import pytest
import worker_loads
from http_service import running
from workers_support import detail, job, loader, pixels, settings, until, until_ready

from server.engine.workers import WorkerPool
from server.types import EngineState, Outcome

DAMAGED = Path(__file__).parents[3] / "examples" / "astronaut-damaged.jpg"


@pytest.mark.slow
def test_the_tiny_profile_finds_and_repaints_the_face_of_a_photograph() -> None:
    async def three() -> list[Outcome]:
        pool = WorkerPool(settings())
        await pool.start()
        try:
            await until(lambda: pool.state is EngineState.READY, within_s=150)
            jobs = [
                job("a face", DAMAGED.read_bytes(), upscale=2, denoise=denoise, seed=5)
                for denoise in (0.4, 0.4, 0.0)
            ]
            return list(await asyncio.gather(*(detail(pool, each) for each in jobs)))
        finally:
            await pool.stop()

    first, again, untouched = asyncio.run(three())
    height, width = pixels(DAMAGED.read_bytes()).shape[:2]
    assert (first.width_px, first.height_px) == (2 * width, 2 * height)
    assert len(first.faces) >= 1
    assert first.pictures == again.pictures
    assert not np.array_equal(pixels(first.pictures[0]), pixels(untouched.pictures[0]))


@pytest.mark.slow
def test_a_request_for_which_the_model_fails_is_500_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = settings(data_dir=tmp_path)
    pool = WorkerPool(chosen, load=loader(worker_loads.poisoned))
    with running(chosen, pool) as service:
        until_ready(service.client)
        key = service.new_key("5")
        picture = base64.b64encode(DAMAGED.read_bytes()).decode()
        reply = service.post(key, image=picture, prompt="a face", denoise=0.4)
        assert reply.status_code == 500
        assert reply.json() == {"error": "Internal Server Error"}
        assert reply.headers["x-remaining-credits"] == "5.0"
        assert service.credits_of(key) == 5
        untouched = service.post(key, image=picture, prompt="a face", denoise=0)
        assert untouched.status_code == 200
    failed = next(r for r in caplog.records if r.name == "server.engine.worker")
    assert "no face got a usable repaint (0 of 1)" in failed.getMessage()
    assert "Traceback" not in failed.getMessage()
