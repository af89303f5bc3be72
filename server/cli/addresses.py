"""Where a server of this machine listens, and how it is called from here."""

import socket
from typing import Final

_BACKLOG: Final = 2048
_ALL: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: any free one.

    Raises:
        OSError: the address is taken or unknown; see `why`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def why(error: OSError) -> str:
    """The reason alone, of what `listen` raises."""
    return str(error.strerror).partition(" (while")[0]


def url_of(host: str, port: int) -> str:
    """The address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def url_to(host: str, port: int) -> str:
    """The same, to be called from this machine: nobody can call what stands for all addresses."""
    return url_of(_ALL.get(host, host), port)
