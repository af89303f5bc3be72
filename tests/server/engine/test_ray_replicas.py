"""The engine of a cluster when a replica has no worker any more, and Ray still sends it jobs."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import worker_loads
from ray_support import replicas, serving_by_ray
from workers_support import detail, job, loader, worker_pid

pytestmark = [pytest.mark.ray, pytest.mark.slow]
DEADLINE_S = 90.0


def test_a_job_that_comes_to_one_without_a_worker_is_done_by_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"
    broken = Path(f"{starts}.broken")

    async def scene(handle: object) -> None:
        async with serving_by_ray(handle, worker_concurrency=2) as engine:
            pid = await worker_pid(engine)
            broken.touch()
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + DEADLINE_S
            while "a replica without a worker" not in caplog.text:
                assert time.monotonic() < deadline
                jobs = [detail(engine, job("linger=0.2")) for _ in range(2)]
                assert {outcome.width_px for outcome in await asyncio.gather(*jobs)} == {5}

    given = {"devices": "cpu", "profile": "tiny", "worker_concurrency": 2}
    variables = {"WORKER_STARTS": str(starts)}
    load = loader(worker_loads.logged)
    with replicas(load, count=2, variables=variables, **given) as handle:
        try:
            asyncio.run(scene(handle))
        finally:
            broken.unlink(missing_ok=True)
