"""What surrounds every request: id and clock, the key check, an answer to every exception."""

import logging
import time
import uuid
from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.accounts import Account, Accounts
from server.contract import KEY_HEADER
from server.errors import MissingKey, ServerError, UnknownPath, WorkFailed, WrongMethod
from server.replies import Call, error_reply

_log = logging.getLogger(__name__)


class Gateway:
    """ASGI middleware: behind it `request.state` has `call` and, off public paths, `account`."""

    def __init__(self, app: ASGIApp, *, accounts: Accounts, public_paths: frozenset[str]) -> None:
        self._app = app
        self._accounts = accounts
        self._public_paths = public_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        call = Call(id=uuid.uuid4().hex, started_s=time.perf_counter())
        request.state.call = call
        try:
            if scope["path"] not in self._public_paths:
                request.state.account = await self._account(request, call)
            await self._app(scope, receive, send)
        except ClientDisconnect:
            _log.info("%s: the sender went away", call.id)
        except Exception as error:  # noqa: BLE001 - the one place where every error becomes an answer
            reply = error_reply(error, call)
            # Probes ask every few seconds, and /ready's answers say nothing that the engine didn't.
            level = logging.DEBUG if scope["path"] in self._public_paths else logging.INFO
            _log_error(error, call, request, reply.status_code, level)
            await reply(scope, receive, send)

    async def _account(self, request: Request, call: Call) -> Account:
        key = _key(request)
        if not key:
            raise MissingKey
        account = await self._accounts.authenticate(key)
        call.remaining = await self._accounts.balance(account)
        return account


def _key(request: Request) -> str:
    sent = request.headers.get(KEY_HEADER, "").strip()
    if sent:
        return sent
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else scheme


def _log_error(error: Exception, call: Call, request: Request, status: int, level: int) -> None:
    if isinstance(error, WorkFailed) or not isinstance(error, ServerError):
        _log.error("%s: %s %r failed", call.id, request.method, request.url.path, exc_info=error)
    else:
        text = f"{type(error).__name__} {error}"
        _log.log(
            level, "%s: %s %r → %d %s", call.id, request.method, request.url.path, status, text
        )


async def from_http_exception(_request: Request, error: Exception) -> NoReturn:
    """The router's own exceptions as this server's, so that one table answers all."""
    match error:
        case HTTPException(status_code=404):
            raise UnknownPath from error
        case HTTPException(status_code=405, headers=headers):
            raise WrongMethod((headers or {}).get("Allow", "")) from error
    raise error
