"""What surrounds every request: id and clock, the key check, an answer to every exception."""

import asyncio
import logging
import time
import uuid

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.accounting import Account, Accounts
from server.api.contract import KEY_HEADER
from server.api.replies import Call, error_reply, in_log, is_fault
from server.errors import MissingKey, NoWorker

_log = logging.getLogger(__name__)


class Gateway:
    """ASGI middleware: behind it `request.state` has `call` and, off public paths, `account`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: Accounts,
        public_paths: frozenset[str],
        public_below: tuple[str, ...],
    ) -> None:
        """`public_paths` need no key, nor does any path that begins as one of `public_below`."""
        self._app = app
        self._accounts = accounts
        self._public_paths = public_paths
        self._public_below = public_below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        call = Call(id=uuid.uuid4().hex, started_s=time.perf_counter())
        request.state.call = call
        answer = _Answer(send)
        try:
            if not self._is_public(scope):
                request.state.account = await self._account(request, call)
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            # By a server that ends, or by Ray's, whose client has gone; what it has done was undone
            # on its way.
            _log.warning("%s: stopped before it was answered", call.id)
            if not answer.has_begun:
                await error_reply(NoWorker(), call)(scope, receive, send)
        except ClientDisconnect:
            call.error = "the sender went away"
        except Exception as error:  # noqa: BLE001 - the one place where every error becomes an answer
            call.error = in_log(error)
            if is_fault(error):
                _log.error("%s failed", call.id, exc_info=error)
            if not answer.has_begun:
                await error_reply(error, call)(scope, receive, send)

    def _is_public(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return path in self._public_paths or path.startswith(self._public_below)

    async def _account(self, request: Request, call: Call) -> Account:
        key = sent_key(request)
        if not key:
            raise MissingKey
        account = await self._accounts.authenticate(key)
        call.account_id = account.id
        call.remaining = await self._accounts.balance(account)
        return account


class _Answer:
    """A request's way back. `has_begun`: whether something of it was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


def sent_key(request: Request) -> str:
    """The key that a request carries; empty where it carries none."""
    sent = request.headers.get(KEY_HEADER, "").strip()
    if sent:
        return sent
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else scheme
