"""`GET /`: a page to detail pictures on, and its files, which lie beside this module."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import Request, Response
from starlette.staticfiles import StaticFiles

from server.api.page.safety import safe_headers

_FOLDER: Final = Path(str(files("server.api.page"))) / "files"
_INDEX: Final = "index.html"
# Scripts, styles and calls of this server alone, and no HTML made from text. A picture of the
# page's own is a blob.
_POLICY: Final = {
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
# After an update no browser mixes old modules with new ones; what has not changed is answered 304.
_ASK_ALWAYS: Final = {"Cache-Control": "no-cache"}


class Page:
    """The page. No key is needed, nothing comes from another host, and all its addresses are
    relative, so that it works behind any path prefix.
    """

    def __init__(self) -> None:
        self._files = StaticFiles(directory=_FOLDER)

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return await self._file(_INDEX, request)

    async def asset(self, request: Request) -> Response:
        """A file of the page.

        Raises:
            HTTPException: it has none of this name.
        """
        return await self._file(request.path_params["asset"], request)

    async def _file(self, name: str, request: Request) -> Response:
        reply = await self._files.get_response(name, request.scope)
        reply.headers.update(request.state.call.headers() | _ASK_ALWAYS | safe_headers(_POLICY))
        return reply
