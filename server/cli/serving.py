"""The composition root: puts the server together and runs it until a signal ends it."""

import contextlib
import fcntl
import functools
import math
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from server import logs
from server.accounts.service import AccountService
from server.api.app import create_app
from server.cli.accounts import database_errors
from server.cli.addresses import listen, why
from server.cli.announcing import announce, announce_when_ready
from server.cli.connections import PatientProtocol
from server.cli.stopping import StoppingServer
from server.engine.plan import plan
from server.engine.workers import WorkerPool
from server.errors import OperatorError
from server.memory import return_large_buffers
from server.metrics import Metrics
from server.settings import Settings

# For the answers to what has not ended within the grace period.
_LAST_WORDS_S = 5
_TRACES_TO = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class ServeError(OperatorError):
    """The server cannot start here."""


def serve_until_stopped(settings: Settings) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; running jobs then have the grace period to end. With a
    second SIGINT it is over.

    Raises:
        ServeError: the address is taken or unknown, another server uses the data folder, or traces
            are asked for without the extra `otel`.
        DatabaseError: the accounts cannot be opened.
        ProfileNotReady: the settings name a profile that was not pulled or has a wrong file.
        UnusableGpu: there is one, and it cannot be used.
    """
    logs.configure(settings.log_level, settings.log_format)
    return_large_buffers()
    _prepare_traces()
    chosen = plan(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        _data_folder(settings),
        contextlib.closing(AccountService.open(settings)) as accounts,
        _listening(settings) as listener,
    ):
        first_key = _first_key(accounts)
        port = listener.getsockname()[1]
        announce(settings, port, first_key)
        metrics = Metrics()
        accounts.report_to(metrics)
        engine = WorkerPool(settings, chosen=chosen, metrics=metrics)
        announce_when_ready(settings, port, first_key, engine)
        _run(settings, listener, accounts, engine, metrics)


def _prepare_traces() -> None:
    """See that spans can be sent, if OpenTelemetry's variables say where to."""
    wanted = [name for name in _TRACES_TO if os.environ.get(name)]
    if not wanted:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise ServeError(
            f"{wanted[0]} asks for traces, which need the extra: pip install '.[otel]'"
        ) from error
    os.environ.setdefault("OTEL_SERVICE_NAME", "face-detailer")


def _run(
    settings: Settings,
    listener: socket.socket,
    accounts: AccountService,
    engine: WorkerPool,
    metrics: Metrics,
) -> None:
    try:
        app = create_app(settings, accounts=accounts, engine=engine, metrics=metrics)
    except OSError as error:
        raise ServeError(f"The data folder cannot be used: {error}") from error
    config = uvicorn.Config(
        app,
        lifespan="on",
        # Not what happens to be installed: the extra `ray` brings others.
        loop="asyncio",
        # uvicorn only calls it.
        http=functools.partial(  # type: ignore[arg-type]
            PatientProtocol,
            header_timeout_s=settings.header_timeout_s,
            reply_timeout_s=settings.reply_timeout_s,
        ),
        ws="none",
        log_config=None,
        # The application has a line of its own, without the URL.
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_s) + _LAST_WORDS_S,
    )
    server = StoppingServer(config, engine, app.state.ending)
    # A terminal that is closed; `nohup` has it ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        raise ServeError("The server could not start; the log says why.")


def _first_key(accounts: AccountService) -> str | None:
    with database_errors():
        return accounts.create_first_key()


@contextlib.contextmanager
def _data_folder(settings: Settings) -> Iterator[None]:
    """The data folder, locked: two servers on it would release each other's holds."""
    try:
        lock = (settings.make_data_dir() / "serve.lock").open("w")
    except OSError as error:
        raise ServeError(f"The data folder cannot be used: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ServeError(
                f"Another server uses the data folder {settings.data_dir}: stop it, or set "
                "FACE_DETAILER_DATA_DIR to another folder."
            ) from error
        yield


def _listening(settings: Settings) -> socket.socket:
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise ServeError(f"Cannot listen on {where}: {why(error)}") from error
