"""Ray as the tests use it: a cluster in this process's care, and servers started on one."""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from workers_support import settings, until

from server import ENV_PREFIX
from server.settings import Settings
from server.types import Engine, EngineState


@contextlib.contextmanager
def replicas(
    load: str, count: int = 1, variables: Mapping[str, str] | None = None, **settings: object
) -> Iterator[Any]:
    """A handle to replicas of the worker on a cluster of this machine's own.

    `load`: what they load. `variables`: of their environment. `settings`: of the worker.
    """
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.serve")
    from ray import serve

    from server.cluster.application import worker

    given = {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
    paths = os.pathsep.join(path for path in sys.path if path)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths, **(variables or {}), **given}},
    )
    try:
        serve.start(proxy_location="Disabled")
        options = {"num_cpus": 0.1}
        own = Settings.model_validate(settings)
        deployment = worker(own.worker_concurrency + own.detect_concurrency, grace_s=1.0)
        application = deployment.options(ray_actor_options=options, num_replicas=count).bind(load)
        yield serve.run(application, name="test", route_prefix=None)
    finally:
        serve.shutdown()
        ray.shutdown()


@contextlib.asynccontextmanager
async def serving_by_ray(handle: Any, **values: object) -> AsyncIterator[Engine]:
    from server.engine.ray.engine import RayEngine

    engine = RayEngine(settings(**values), handle)
    await engine.start()
    try:
        await until(lambda: engine.state is EngineState.READY)
        yield engine
    finally:
        await engine.stop()
