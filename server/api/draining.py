"""Answers that come before the request's body was read, so that every client gets to see them.

A connection that is closed while its client still writes is broken for the client, which then never
reads the answer. So the answer is sent at once, and what the client goes on writing is read and
thrown away, within limits, before the connection is closed.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_BYTES: Final = 2**26
# A body as short as this is waited for, so that its connection can be used again.
_SHORT_BYTES: Final = 2**16
_SHORT_WAIT_S: Final = 0.1


class Draining:
    """ASGI middleware: reads what an answer has left of a body, for `timeout_s` at most, and until
    the server ends.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float, ending: asyncio.Event) -> None:
        """`ending`: set when the server is told to end."""
        self._app = app
        self._timeout_s = timeout_s
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and _has_body(headers := Headers(scope=scope)):
            length = declared_bytes(headers)
            # A client that asks first sends nothing before it is told to go on.
            sends = headers.get("expect", "").lower() != "100-continue"
            drain = _Drain(receive, send, length, self._timeout_s, self._ending, sends=sends)
            await self._app(scope, drain.receive, drain.send)
        else:
            await self._app(scope, receive, send)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or declared_bytes(headers) > 0


def declared_bytes(headers: Headers) -> int:
    """The length that a request declares for its body; 0 if it declares none."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


class _Drain:
    """One request's way through `Draining`."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        length: int,
        timeout_s: float,
        ending: asyncio.Event,
        *,
        sends: bool,
    ) -> None:
        """`sends`: whether the client sends its body unasked."""
        self._receive = receive
        self._send = send
        self._is_short = 0 < length <= _SHORT_BYTES
        self._timeout_s = timeout_s
        self._ending = ending
        self._sends = sends
        self._read = False

    async def receive(self) -> Message:
        # Which tells a client that asked to go on.
        self._sends = True
        message = await self._receive()
        self._read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if not self._read and message["type"] == "http.response.start":
            if self._is_short and self._sends:
                await self._drain(_SHORT_WAIT_S)
            if not self._read:
                # Also to who asked, and may send the body all the same, at any pace.
                MutableHeaders(scope=message)["connection"] = "close"
        over = self._read or not self._sends
        if over or message["type"] != "http.response.body" or message.get("more_body"):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._drain(self._timeout_s)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self, timeout_s: float) -> None:
        reading = asyncio.create_task(self._read_rest())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait(
                {reading, ending}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            # A server that ends is the only cause: the answer is on its way.
            pass
        finally:
            reading.cancel()
            ending.cancel()

    async def _read_rest(self) -> None:
        drained = 0
        while not self._read and drained <= _MOST_BYTES:
            drained += len((await self.receive()).get("body", b""))
