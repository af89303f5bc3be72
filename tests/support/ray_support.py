"""Ray as the tests use it: a cluster in this process's care, and servers started on one."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from server import ENV_PREFIX
from server.settings import Settings


@contextlib.contextmanager
def replicas(load: str, **settings: object) -> Iterator[Any]:
    """A handle to one replica of the worker on a cluster of this machine's own.

    `load`: what it loads. `settings`: of the worker.
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
        runtime_env={"env_vars": {"PYTHONPATH": paths, **given}},
    )
    try:
        serve.start(proxy_location="Disabled")
        options = {"num_cpus": 0.1}
        own = Settings.model_validate(settings)
        deployment = worker(own.worker_concurrency + own.detect_concurrency, grace_s=1.0)
        application = deployment.options(ray_actor_options=options).bind(load)
        yield serve.run(application, name="test", route_prefix=None)
    finally:
        serve.shutdown()
        ray.shutdown()
