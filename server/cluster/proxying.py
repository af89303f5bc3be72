"""What Ray Serve's HTTP proxy is to do beside its own, so that replies keep to the contract.

Ray imports it where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names `middlewares`.
"""

from typing import Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REQUEST_ID: Final = b"x-request-id"


def middlewares() -> list[Middleware]:
    """For the proxy on each node."""
    return [Middleware(OneRequestId)]


class OneRequestId:
    """ASGI middleware: the proxy adds an X-Request-ID of its own to every reply, in another form;
    where the server has set one, it alone is sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                ids = [header for header in headers if header[0].lower() == _REQUEST_ID]
                # The server's comes before the proxy's.
                headers = [header for header in headers if header not in ids[1:]]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_once)
