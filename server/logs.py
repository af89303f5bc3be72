"""How the log looks: one line per record, on standard error."""

import logging

from server.settings import LogLevel

_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"


def configure(level: LogLevel) -> None:
    """Send everything at or above `level` to standard error."""
    logging.basicConfig(level=level.upper(), format=_FORMAT, datefmt=_DATE_FORMAT)
    # These tell at "info" what only their own developers want to know.
    for name in ("alembic", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
