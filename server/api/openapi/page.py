"""`GET /openapi.json`, and `GET /docs`: a page of it, with every file it needs."""

import base64
import hashlib
import re
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fastapi import Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from server.api import contract
from server.api.openapi.document import document
from server.api.page.safety import safe_headers
from server.api.proxies import base_url
from server.api.replies import JSON, json_text
from server.errors import UnknownPath
from server.settings import Settings

_FOLDER: Final = Path(str(files("fastapi_swagger"))) / "resources"
_SCRIPT, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
_MEDIA_TYPES: Final = {_SCRIPT: "text/javascript", _STYLE: "text/css", _ICON: "image/png"}
_KEEP: Final = "public, max-age=3600"
# Swagger UI's styles hold pictures, and a reply that is one is shown as a blob. The page's one
# script that is no file is named by its hash.
_POLICY: Final = {
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
}
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def _safe_headers(html: str) -> dict[str, str]:
    scripts = [hashlib.sha256(script.encode()).digest() for script in _INLINE.findall(html)]
    hashes = [f"'sha256-{base64.b64encode(script).decode()}'" for script in scripts]
    return safe_headers({**_POLICY, "script-src": " ".join(["'self'", *hashes])})


class Description:
    """What the server says of itself. No key is needed, and nothing comes from another host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def document(self, request: Request) -> Response:
        """The document, with the server's address as the request's sender knows it."""
        base = base_url(request, self._settings.public_base_url)
        text = await run_in_threadpool(self._text, base)
        return Response(text, headers=request.state.call.headers(), media_type=JSON)

    async def page(self, request: Request) -> Response:
        """Swagger UI. All its addresses are relative, so that it works behind any path prefix."""
        assets = contract.DOCS_PATH.removeprefix("/")
        page = get_swagger_ui_html(
            openapi_url=contract.OPENAPI_PATH.removeprefix("/"),
            title="face-detailer",
            swagger_js_url=f"{assets}/{_SCRIPT}",
            swagger_css_url=f"{assets}/{_STYLE}",
            swagger_favicon_url=f"{assets}/{_ICON}",
            # No badge of a validator, which would send the document's address to its host.
            swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
        )
        page.headers.update(request.state.call.headers() | _safe_headers(bytes(page.body).decode()))
        return page

    async def asset(self, request: Request) -> Response:
        """A file of the page.

        Raises:
            UnknownPath: it has none of this name.
        """
        name = request.path_params["asset"]
        if name not in _MEDIA_TYPES:
            raise UnknownPath
        headers = request.state.call.headers() | {"Cache-Control": _KEEP} | safe_headers({})
        return FileResponse(_FOLDER / name, media_type=_MEDIA_TYPES[name], headers=headers)

    def _text(self, base: str) -> str:
        return json_text({**self._document, "servers": [{"url": base}]})

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document(self._settings)
