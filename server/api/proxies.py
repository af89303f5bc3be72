"""Where a request came to: through which proxy, under which host and path."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final, cast
from urllib.parse import unquote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from server.api.urls import is_host

EVERY_PROXY: Final = "*"

_MOST_PORTS: Final = 2**16
_NETLOC = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>\d{1,5}))?")
_PREFIX = re.compile(r"/?[\w.~-]+(/[\w.~-]+)*/?", re.ASCII)
_SCHEMES: Final = frozenset({"http", "https"})
_DOTS: Final = frozenset({".", ".."})
# RFC 9112 (3.2.2): what clients send to proxies, and every server must take.
_WHOLE_URL = re.compile(rb"https?://(?P<netloc>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


class TrustedProxies:
    """ASGI middleware: believes the `X-Forwarded-…` headers of trusted proxies, and nobody else's.

    `-Proto` and `-For` are uvicorn's own part; `-Host` and `-Prefix` are added here. Values that
    can be neither host nor path get into no URL: they are ignored, as is an odd `Host`.
    """

    def __init__(self, app: ASGIApp, *, proxies: Sequence[str]) -> None:
        """`proxies`: IP addresses and networks; "*" trusts whoever connects."""
        self._app = app
        # uvicorn writes the same types out at greater length.
        believing = ProxyHeadersMiddleware(cast("Any", app), trusted_hosts=list(proxies))
        self._trusting = cast("ASGIApp", believing)
        self._all = EVERY_PROXY in proxies
        self._networks = [ipaddress.ip_network(p) for p in proxies if p != EVERY_PROXY]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request as the first proxy was asked for it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _in_origin_form(scope)
        headers = MutableHeaders(raw=scope["headers"])
        if not _is_netloc(headers.get("host", "")):
            del headers["host"]
        if not self._trusts(scope):
            await self._app(scope, receive, send)
            return
        host = _last(headers.get("x-forwarded-host", ""))
        prefix = _last(headers.get("x-forwarded-prefix", ""))
        if not _SCHEMES.issuperset(headers.getlist("x-forwarded-proto")):
            del headers["x-forwarded-proto"]
        if _is_netloc(host):
            headers["host"] = host
        if _is_path(prefix):
            scope["root_path"] = f"/{prefix.strip('/')}"
        await self._trusting(scope, receive, send)

    def _trusts(self, scope: Scope) -> bool:
        if self._all:
            return True
        try:
            address = ipaddress.ip_address(scope["client"][0])
        except (TypeError, ValueError):
            return False
        return any(address in network for network in self._networks)


def base_url(request: Request, public_base_url: str | None) -> str:
    """What the request's own URLs begin with, without a slash at the end.

    The setting, where there is one; else the scheme, host and path prefix of the request itself.
    """
    if public_base_url is not None:
        return public_base_url
    return str(request.base_url).rstrip("/")


def _in_origin_form(scope: Scope) -> Scope:
    """A copy of the request whose target is a path: of a whole URL, the host is the request's."""
    scope = {**scope, "headers": list(scope["headers"])}
    whole = _WHOLE_URL.fullmatch(scope.get("raw_path") or b"")
    if whole:
        scope["raw_path"] = whole["path"] or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("ascii"))
        MutableHeaders(raw=scope["headers"])["host"] = whole["netloc"].decode("latin-1")
    return scope


def _is_netloc(text: str) -> bool:
    """Whether this is a host with or without a port."""
    found = _NETLOC.fullmatch(text)
    if not found or (found["port"] and not 0 < int(found["port"]) < _MOST_PORTS):
        return False
    if found["host"] is None:
        return ":" in found["ipv6"] and is_host(found["ipv6"])
    return is_host(found["host"])


def _is_path(text: str) -> bool:
    """Whether a path of plain characters leads down."""
    return bool(_PREFIX.fullmatch(text)) and not _DOTS & set(text.split("/"))


def _last(value: str) -> str:
    """The part of a list of values that the nearest proxy has added."""
    return value.rpartition(",")[2].strip()
