"""How the HTTP server ends: the work first, so that every caller gets an answer."""

import asyncio
import contextlib
import socket
from typing import Final

import uvicorn

from server.types import Engine

_ANSWERS_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.05


class StoppingServer(uvicorn.Server):
    """A server that stops its engine as soon as it is told to end, and not after its connections.

    The engine answers what does not end within the grace period; uvicorn would cut it off.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, ending: asyncio.Event) -> None:
        """`ending`: the application's, see `server.api.app.create_app`."""
        super().__init__(config)
        self._engine = engine
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and end when every request has its answer."""
        self._ending.set()
        stopping = asyncio.create_task(self._engine.stop())
        await super().shutdown(sockets)
        if self.force_exit:
            # Told twice: the grace period is over. Who waits is still answered.
            stopping.cancel()
        await asyncio.wait({stopping})
        await self._answers()
        if self.force_exit:
            await self.lifespan.shutdown()

    async def _answers(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWERS_S):
                while self.server_state.tasks:
                    await asyncio.sleep(_LOOK_EVERY_S)
