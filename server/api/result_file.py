"""A result's file as a reply, whole or in parts."""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from server.errors import BadRange, BeyondEnd

_UNIT: Final = "bytes="
_ERROR: Final = 400


class ResultFile(FileResponse):
    """A `FileResponse` whose refusals are this server's errors."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or what the header Range asks for.

        Raises:
            BadRange: it cannot be understood; nothing was sent.
            BeyondEnd: it asks for what is not there; nothing was sent.
        """

        async def send_unless_refused(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= _ERROR:
                content_range = Headers(raw=message["headers"]).get("content-range")
                raise BadRange if content_range is None else BeyondEnd(content_range)
            await send(message)

        await super().__call__(_in_bytes(scope), receive, send_unless_refused)


def _in_bytes(scope: Scope) -> Scope:
    """The request without a Range in a unit that is not known, which RFC 9110 (14.2) ignores."""
    headers = MutableHeaders(raw=list(scope["headers"]))
    if not headers.get("range", _UNIT).replace(" ", "").lower().startswith(_UNIT):
        del headers["range"]
    return {**scope, "headers": headers.raw}
