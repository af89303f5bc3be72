"""From a request's body, JSON or multipart/form-data, to values by field name."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from server.api.contract import late_body, mebibytes
from server.api.draining import declared_bytes
from server.api.inflating import NotInflatable, encoding_of, inflated, limited
from server.api.json_bodies import LONG_BYTES, json_values
from server.api.room import Grow, Room
from server.errors import BadContentType, BadParameter, TooLarge

JSON = "application/json"
MULTIPART = "multipart/form-data"
# ASCII is a part of UTF-8.
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
# Before the first part there may be a line for those whose program knows no multipart.
_LONGEST_PREAMBLE = 2**16


def media_type(request: Request) -> str:
    """The body's media type without parameters.

    Raises:
        BadContentType: neither JSON nor multipart/form-data.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in (JSON, MULTIPART):
        raise BadContentType
    return found


async def read_values(
    request: Request, room: Room, *, max_bytes: int, timeout_s: float
) -> Mapping[str, object]:
    """The request's values: JSON's own types, or text and, for a part that holds a file, bytes.

    Raises:
        BadContentType: neither JSON nor multipart/form-data.
        BadEncoding: compressed in a way that is not read.
        BadParameter: the body cannot be read as what it says it is, or is not there in time.
        Busy: there is no room for it.
        TooLarge: more than `max_bytes`, as sent or inflated; raised as soon as that is known.
        ClientDisconnect: the sender went away.
    """
    kind = media_type(request)
    body = bytearray()
    with room.take(
        min(declared_bytes(request.headers), max_bytes), request.state.account.id
    ) as grow:
        stream = _counted(_content(request, max_bytes), grow)
        try:
            async with asyncio.timeout(timeout_s):
                if kind == MULTIPART:
                    return await _multipart(request.headers["content-type"], stream, max_bytes)
                async for chunk in stream:
                    body += chunk
        except TimeoutError as error:
            raise BadParameter(late_body(timeout_s)) from error
        return await run_in_threadpool(json_values, body)


async def _multipart(
    content_type: str, stream: AsyncGenerator[bytes, None], max_bytes: int
) -> Mapping[str, object]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"").decode("latin-1")
    if not boundary or not boundary.isprintable() or '"' in boundary:
        raise BadParameter("The body is not valid multipart/form-data")
    charset = options.get(b"charset", b"utf-8").decode("latin-1").strip().lower()
    if charset not in _CHARSETS:
        raise BadParameter("The charset of multipart/form-data should be UTF-8")
    # As Latin-1 every byte is a letter: a picture that came without a file name is not spoilt.
    headers = Headers({"content-type": f'{MULTIPART}; charset=latin-1; boundary="{boundary}"'})
    parts = _without_preamble(stream, boundary.encode("latin-1"))
    parser = MultiPartParser(headers, parts, max_part_size=max_bytes)
    # In memory, of which `room` keeps account: the folder of temporary files may be full.
    parser.spool_max_size = max_bytes
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadParameter("The body is not valid multipart/form-data") from error
    values: dict[str, object] = {}
    for name, value in form.multi_items():
        sent = await value.read() if isinstance(value, UploadFile) else _part(value)
        name = name.encode("latin-1").decode("utf-8", "replace")
        # Pages send a file field and an empty text field of one name.
        if name not in values or (sent and not sent.isspace()):
            values[name] = sent
    await form.close()
    return values


async def _without_preamble(
    stream: AsyncGenerator[bytes, None], boundary: bytes
) -> AsyncGenerator[bytes, None]:
    """The body from its first boundary on, which stands at a line's begin: RFC 2046, 5.1.1."""
    delimiter, at = b"\n--" + boundary, -1
    # As if a line had ended before the body.
    begin = bytearray(b"\n")
    async for chunk in stream:
        if at >= 0:
            yield chunk
            continue
        looked_at = len(begin)
        begin += chunk
        at = begin.find(delimiter, max(0, looked_at - len(delimiter)))
        if (at if at >= 0 else len(begin) - len(delimiter)) > _LONGEST_PREAMBLE:
            raise BadParameter("The body is not valid multipart/form-data")
        if at >= 0:
            yield bytes(begin[at + 1 :])
            begin.clear()
    if at < 0:
        yield bytes(begin[1:])


def _part(value: str) -> str | bytes:
    """A part without a file name: its text; its bytes where those are no text, or are many."""
    sent = value.encode("latin-1")
    if b"\0" in sent or len(sent) > LONG_BYTES:
        return sent
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return sent


async def _content(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body as it was before it was compressed."""
    problem = TooLarge(f"the request is larger than {mebibytes(max_bytes)}")
    encoding = encoding_of(request.headers.getlist("content-encoding"))
    if declared_bytes(request.headers) > max_bytes:
        raise problem
    content: AsyncGenerator[bytes, None] = limited(request.stream(), max_bytes, problem)
    if encoding is not None:
        content = limited(inflated(content, encoding), max_bytes, problem)
    try:
        async for chunk in content:
            yield chunk
    except NotInflatable as error:
        raise BadParameter("The body is not compressed as Content-Encoding says") from error


async def _counted(chunks: AsyncGenerator[bytes, None], grow: Grow) -> AsyncGenerator[bytes, None]:
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        grow(total)
        yield chunk
