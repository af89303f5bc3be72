"""Fetching a picture by its URL without letting the sender reach into the server's own network."""

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from server.api.contract import mebibytes
from server.api.inflating import NotInflatable, encoding_of, inflated, limited
from server.api.urls import ImpossibleUrl, check
from server.errors import BadEncoding, BadImage, TooLarge

MayReach = Callable[[str], bool]
"""Whether an IP address may be connected to."""

MAX_REDIRECTS = 5
# Names that nobody answers for occupy a thread until the system gives up, long after the fetch has:
# they may keep each other waiting, and nothing else.
_RESOLVING = ThreadPoolExecutor(8, thread_name_prefix="resolving")
_HEADERS = {
    "accept": "image/*, */*;q=0.5",
    "accept-encoding": "identity",
    "user-agent": "face-detailer",
}


class GuardedTransport(httpx.AsyncBaseTransport):
    """Resolves a host once, checks its addresses, and connects to those that were checked.

    So a name that changes its address cannot slip through. Every request passes here, redirected
    ones too. A connection serves one request: the TLS session of one host is never used for
    another host at the same address.
    """

    def __init__(self, tls: ssl.SSLContext, may_reach: MayReach) -> None:
        self._may_reach = may_reach
        self._inner = httpx.AsyncHTTPTransport(
            verify=tls, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to the first of its host's addresses that answers.

        Raises:
            BadImage: the scheme, the host or all of its addresses are not allowed or unknown, or
                the host or the port cannot be.
            httpx.TransportError: no address answered.
        """
        if request.url.scheme not in ("http", "https"):
            raise BadImage("its URL must start with http:// or https://")
        try:
            check(request.url)
        except ImpossibleUrl as error:
            raise BadImage("its URL cannot be understood") from error
        addresses = await self._addresses(request.url)
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_aimed_at(address, request))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_aimed_at(addresses[-1], request))

    async def _addresses(self, url: httpx.URL) -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                _RESOLVING,
                functools.partial(
                    socket.getaddrinfo, _ascii_host(url), port, type=socket.SOCK_STREAM
                ),
            )
        except (OSError, UnicodeError) as error:
            raise BadImage("the host of its URL is unknown") from error
        addresses = [str(entry[4][0]) for entry in found]
        allowed = [a for a in addresses if self._may_reach(a)]
        if not allowed:
            raise BadImage("its URL does not lead to a public address")
        return list(dict.fromkeys(allowed))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()


def _aimed_at(address: str, request: httpx.Request) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,  # The Host header stays the name's.
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": _ascii_host(request.url)},
    )


def _ascii_host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


class Fetcher:
    """Fetches pictures within limits: bytes of the file, and seconds with all redirects."""

    def __init__(self, *, max_bytes: int, timeout_s: float, may_reach: MayReach) -> None:
        self._tls = httpx.create_ssl_context()
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._may_reach = may_reach

    async def fetch(self, url: str) -> bytes:
        """The file behind `url`.

        Raises:
            BadImage: it cannot be had, and why.
            TooLarge: it is larger than the limit.
        """
        transport = GuardedTransport(self._tls, self._may_reach)
        try:
            # One client per picture: cookies that one sender's host sets must not reach another's.
            async with (
                asyncio.timeout(self._timeout_s),
                httpx.AsyncClient(
                    transport=transport, headers=_HEADERS, timeout=self._timeout_s
                ) as client,
            ):
                return await self._follow(client, client.build_request("GET", url))
        except (TimeoutError, httpx.TimeoutException) as error:
            why = f"its URL did not answer within {self._timeout_s:g} s"
            raise BadImage(why) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise BadImage("its URL cannot be understood") from error
        except httpx.HTTPError as error:
            raise BadImage("its URL cannot be reached") from error

    async def _follow(self, client: httpx.AsyncClient, request: httpx.Request) -> bytes:
        # Not by httpx itself, which reads and inflates the bodies of redirects, whatever they hold.
        for _ in range(1 + MAX_REDIRECTS):
            response = await client.send(request, stream=True)
            try:
                if response.next_request is None:
                    return await self._read(response)
                request = response.next_request
            finally:
                await response.aclose()
        raise BadImage(f"its URL redirects more than {MAX_REDIRECTS} times")

    async def _read(self, response: httpx.Response) -> bytes:
        if not response.is_success:
            raise BadImage(f"its URL answered with status {response.status_code}")
        problem = TooLarge(f"the file is larger than {mebibytes(self._max_bytes)}")
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            raise problem
        # Not inflated by httpx either: it does so with a whole chunk at a time, times a thousand,
        # and again for each further encoding that the host names.
        content: AsyncGenerator[bytes, None] = limited(
            response.aiter_raw(), self._max_bytes, problem
        )
        data = bytearray()
        try:
            encoding = encoding_of(response.headers.get_list("content-encoding"))
            if encoding is not None:
                content = limited(inflated(content, encoding), self._max_bytes, problem)
            async for chunk in content:
                data += chunk
        except (BadEncoding, NotInflatable) as error:
            raise BadImage("its URL answered with what cannot be decompressed") from error
        return bytes(data)
