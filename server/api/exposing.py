"""`GET /metrics`: the server's metrics, as Prometheus reads them."""

import secrets

from fastapi import Request, Response
from prometheus_client.exposition import choose_encoder

from server.api.gateway import sent_key
from server.api.replies import Call
from server.errors import BadKey, MissingKey
from server.metrics import Metrics
from server.settings import Settings


class Exposing:
    """The call."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._token = settings.metrics_token
        self._metrics = metrics

    async def answer(self, request: Request) -> Response:
        """All metrics, in the form that the reader asks for.

        Raises:
            MissingKey, BadKey: a token is set, and another was sent, or none.
        """
        if self._token is not None:
            self._check(sent_key(request), self._token)
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        call: Call = request.state.call
        body = encode(self._metrics.registry)
        return Response(body, headers=call.headers() | {"Content-Type": media_type})

    def _check(self, sent: str, token: str) -> None:
        if not sent:
            raise MissingKey
        if not secrets.compare_digest(sent.encode(), token.encode()):
            raise BadKey
