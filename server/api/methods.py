"""What is answered where no call fits: an unknown path, a method that is not served, `OPTIONS`."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from server.api.contract import PATH
from server.errors import UnknownPath, WrongMethod

_OPTIONS: Final = "OPTIONS"


async def from_http_exception(request: Request, error: Exception) -> Response:
    """The router's own exceptions as this server's, so that one table answers all; or the methods
    of the path, if it was asked for them.

    Raises:
        UnknownPath, WrongMethod: the request fits no call.
    """
    match error:
        case HTTPException(status_code=404):
            raise UnknownPath from error
        case HTTPException(status_code=405):
            allow = _allowed(request.scope)
            if request.method != _OPTIONS or _OPTIONS not in allow:
                raise WrongMethod(", ".join(allow)) from error
            headers = request.state.call.headers() | {"Allow": ", ".join(allow)}
            return Response(status_code=204, headers=headers)
    raise error


def _allowed(scope: Scope) -> list[str]:
    """Every method that the path is served by."""
    fitting = (
        route
        for route in scope["app"].routes
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
    )
    methods = {method for route in fitting for method in route.methods or ()}
    # The hosted service refuses OPTIONS on its own path, and names POST alone.
    if scope["path"].removeprefix(scope.get("root_path", "")) != PATH:
        methods.add(_OPTIONS)
    return sorted(methods)
