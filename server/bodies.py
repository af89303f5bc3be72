"""From a request's body, JSON or multipart/form-data, to values by field name."""

import json
from collections.abc import AsyncGenerator, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from server.contract import mebibytes
from server.errors import BadContentType, BadParameter, TooLarge

JSON = "application/json"
MULTIPART = "multipart/form-data"


def media_type(request: Request) -> str:
    """The body's media type without parameters.

    Raises:
        BadContentType: neither JSON nor multipart/form-data.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in (JSON, MULTIPART):
        raise BadContentType
    return found


async def read_values(request: Request, max_bytes: int) -> Mapping[str, object]:
    """The request's values: JSON's own types, or text and, for a file part, bytes.

    Raises:
        BadContentType: neither JSON nor multipart/form-data.
        BadParameter: the body cannot be read as what it says it is.
        TooLarge: more than `max_bytes`; raised as soon as that is known.
        ClientDisconnect: the sender went away.
    """
    if media_type(request) == MULTIPART:
        return await _multipart(request, max_bytes)
    body = bytearray()
    async for chunk in _limited(request, max_bytes):
        body += chunk
    return await run_in_threadpool(_json, bytes(body))


def _json(body: bytes) -> Mapping[str, object]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadParameter("The body is not valid JSON") from error
    if not isinstance(values, dict):
        raise BadParameter("The body must be a JSON object")
    return values


async def _multipart(request: Request, max_bytes: int) -> Mapping[str, object]:
    parser = MultiPartParser(request.headers, _limited(request, max_bytes), max_part_size=max_bytes)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadParameter("The body is not valid multipart/form-data") from error
    values: dict[str, object] = {}
    for name, value in form.multi_items():
        values[name] = await value.read() if isinstance(value, UploadFile) else value
    await form.close()
    return values


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    problem = TooLarge(f"the request is larger than {mebibytes(max_bytes)}")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise problem
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes:
            raise problem
        yield chunk
