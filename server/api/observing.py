"""What is seen of every request from outside: a line in the log, its count, its span."""

import logging
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.contract import HEALTH_PATH, METRICS_PATH, READY_PATH, credits_text
from server.api.replies import Call
from server.api.tracing import trace_request
from server.logs import with_fields
from server.metrics import METHODS, OTHER, Metrics

HUNG_UP: Final = 499
"""The status, here alone, of a request whose sender went away before it had a reply."""

# These ask every few seconds.
_PROBES: Final = frozenset({HEALTH_PATH, READY_PATH, METRICS_PATH})
_log = logging.getLogger("server.requests")


class Observing:
    """ASGI middleware. `server.api.gateway` behind it puts a `Call` into the request's state."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # There before the copies that others make of the scope, which then share it.
        scope.setdefault("state", {})
        seen = _Seen(scope, send, self._metrics)
        with self._metrics.requests_in_progress.track_inprogress():
            try:
                await self._app(scope, receive, seen.send)
            finally:
                seen.end()


class _Seen:
    """One request's way through `Observing`."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self._scope = scope
        self._send = send
        self._metrics = metrics
        self._started_s = time.perf_counter()
        self._status = HUNG_UP
        self._ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif not message.get("more_body", False):
            # Before the reply is whole: whoever has it finds it counted.
            self.end()
        await self._send(message)

    def end(self) -> None:
        """Count the request and write its line, once."""
        if self._ended:
            return
        self._ended = True
        seconds = time.perf_counter() - self._started_s
        method, route = self._scope["method"], route_of(self._scope)
        self._metrics.count_request(method, route, self._status, seconds)
        call: Call | None = self._scope["state"].get("call")
        told = {} if call is None else _fields(call)
        _write(method, route, self._status, seconds, told)
        stages = () if call is None else call.stages
        has_query = bool(self._scope.get("query_string"))
        known = method if method in METHODS else OTHER
        trace_request(known, route, self._status, told, stages, has_query=has_query)


def route_of(scope: Scope) -> str | None:
    """The template of the path that a request asks for; None where nothing is served."""
    routes: list[BaseRoute] = scope["app"].routes
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            return str(getattr(route, "path", OTHER))
    return None


def is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request is of those that ask every few seconds."""
    return scope.get("path") in _PROBES


def _fields(call: Call) -> dict[str, str | int]:
    """What is known of a call."""
    known = {
        "request": call.id,
        "account": call.account_id,
        "faces": call.faces,
        "cost": None if call.cost is None else credits_text(call.cost),
        "error": call.error,
    }
    return {name: value for name, value in known.items() if value is not None}


def _write(
    method: str, route: str | None, status: int, seconds: float, told: Mapping[str, str | int]
) -> None:
    """The request's line. No path: that of a result is a secret, and others are a stranger's."""
    fields = {
        "method": method if method in METHODS else OTHER,
        "route": route or OTHER,
        "status": status,
        "ms": round(seconds * 1000),
        **told,
    }
    level = logging.DEBUG if route in _PROBES else logging.INFO
    _log.log(level, "request", extra=with_fields(fields))
