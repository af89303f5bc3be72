"""`face-detailer serve`: the parts put together, and served until a signal ends it."""

import contextlib
import fcntl
import logging
import math
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from server import logs
from server.accounts import Accounts
from server.app import create_app
from server.errors import OperatorError
from server.profiles import check_weights
from server.settings import Settings
from server.workers import WorkerPool

_BACKLOG = 2048
_log = logging.getLogger(__name__)


class ServeError(OperatorError):
    """The server cannot start here."""


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; running jobs are then answered within the grace period.

    Raises:
        ServeError: the address cannot be listened on, or the data folder is another server's.
        DatabaseError: the accounts cannot be opened.
        WeightsMissing: the profile is named, and was not pulled.
    """
    logs.configure(settings.log_level)
    if settings.profile != "auto":
        check_weights(settings.profile, settings.data_dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        _data_folder(settings),
        contextlib.closing(Accounts.open(settings)) as accounts,
        _listening(settings) as listener,
    ):
        # Holds of the accounts in the data folder, which is ours alone, can only be leftovers.
        released = accounts.release_leftovers(only_expired=settings.database_url is not None)
        if released:
            _log.warning("gave back %d holds of credits of a server that died", released)
        _announce(settings, listener, accounts.create_first_key())
        _run(settings, listener, accounts)


def _run(settings: Settings, listener: socket.socket, accounts: Accounts) -> None:
    app = create_app(settings, accounts=accounts, engine=WorkerPool(settings))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="on",
            ws="none",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_s),
        )
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        raise ServeError("The server could not start; the log says why.")


@contextlib.contextmanager
def _data_folder(settings: Settings) -> Iterator[None]:
    """The data folder, locked for this process: two servers would release each other's holds."""
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
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]
        raise ServeError(f"Cannot listen on {settings.host}:{settings.port}: {why}") from error


def _announce(settings: Settings, listener: socket.socket, first_key: str | None) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"Listening on http://{host}:{listener.getsockname()[1]}", flush=True)
    if first_key is not None:
        print("The first API key, unlimited; it is shown only now:", first_key, flush=True)
