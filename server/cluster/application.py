"""The composition root on a Ray cluster: the HTTP application over replicas of the worker.

serve run server.cluster:build
serve deploy deploy/ray/serve.yaml
"""

from typing import Final

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.handle import DeploymentHandle

from server import logs
from server.accounts.service import AccountService
from server.api.app import create_app
from server.engine.ray.engine import INGRESS, RayEngine
from server.engine.ray.replica import Replica
from server.errors import OperatorError
from server.memory import return_large_buffers
from server.metrics import Metrics
from server.settings import Settings, read_settings

# How many calls one ingress has open at a time: most of them wait or follow a job's events.
_MOST_CALLS: Final = 1000
_LOOK_AT_HEALTH_EVERY_S: Final = 5.0


class ClusterError(OperatorError):
    """The server cannot run on a cluster with these settings."""


class Arguments(BaseModel):
    """`args` of the application in Ray Serve's configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    load: str = Field(default="pipeline.loading:load", pattern=r"^[\w.]+:\w+$")
    """What a replica loads, as "module:function"; to be changed by tests alone."""


class Ingress:
    """Answers HTTP, as `face-detailer serve` does; several may run at a time."""

    def __init__(self, replicas: DeploymentHandle[Replica]) -> None:
        """`replicas`: the deployment that does the work.

        Raises:
            DatabaseError: the accounts cannot be opened.
        """
        return_large_buffers()
        self._settings = _settings()
        logs.configure(self._settings.log_level, self._settings.log_format)
        self._accounts = AccountService.open(self._settings, alone=False)
        self._metrics = Metrics()
        self._accounts.report_to(self._metrics)
        self._engine = RayEngine(self._settings, replicas, self._metrics)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve after the constructor."""
        return create_app(
            self._settings, accounts=self._accounts, engine=self._engine, metrics=self._metrics
        )


def build(args: Arguments) -> serve.Application:
    """What `serve run` and `serve deploy` start. How many replicas there are, and with what, is
    said in Ray Serve's own configuration, under `deployments`, by the names given here.

    Raises:
        ClusterError: the settings lack what several servers share.
        SettingsError: a setting is wrong.
    """
    settings = _settings()
    # Until its answers are sent; then Ray ends it.
    grace_s = settings.request_timeout_s + settings.shutdown_grace_s
    ingress = serve.deployment(
        name=INGRESS,
        max_ongoing_requests=_MOST_CALLS,
        graceful_shutdown_timeout_s=grace_s,
        # The new one is ready before the old one goes.
        max_surge_percent=100,
    )(serve.ingress()(Ingress))
    concurrency = settings.worker_concurrency + settings.detect_concurrency
    return ingress.bind(worker(concurrency, grace_s).bind(args.load))


def worker(concurrency: int, grace_s: float) -> serve.Deployment:
    """The deployment of the worker. `concurrency`: jobs of all kinds that a replica does at a
    time, and shares batches between. `grace_s`: how long one that is to go may finish what it has
    begun.
    """
    return serve.deployment(
        name="worker",
        max_ongoing_requests=concurrency,
        graceful_shutdown_timeout_s=grace_s,
        health_check_period_s=_LOOK_AT_HEALTH_EVERY_S,
        max_surge_percent=100,
    )(Replica)


def _settings() -> Settings:
    """The settings of this node's environment.

    Raises:
        ClusterError: as `build`.
    """
    settings = read_settings()
    if not (settings.database_url or "").startswith("postgresql"):
        raise ClusterError(
            "Set FACE_DETAILER_DATABASE_URL: the servers of a cluster share a PostgreSQL database."
        )
    return settings
