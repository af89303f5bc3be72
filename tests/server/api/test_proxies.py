"""Under which address a request's own URLs lie, straight and behind proxies."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.api.proxies import TrustedProxies, base_url

FORWARDED = {
    "x-forwarded-proto": "https",
    "x-forwarded-host": "faces.example",
    "x-forwarded-prefix": "/detail/",
    "x-forwarded-for": "203.0.113.9",
}


def asked(
    headers: Mapping[str, str | bytes],
    *,
    proxies: tuple[str, ...] = ("127.0.0.1",),
    client: str = "127.0.0.1",
    public: str | None = None,
    path: str = "/v2/here",
) -> str:
    """The address that an application behind the middleware gives as its own."""

    async def show(request: Request) -> PlainTextResponse:
        return PlainTextResponse(base_url(request, public))

    app = TrustedProxies(Starlette(routes=[Route("/v2/here", show)]), proxies=proxies)

    async def ask() -> str:
        transport = httpx.ASGITransport(app, client=(client, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://own:8000") as caller:
            reply = await caller.get(path, headers=headers)
        assert reply.status_code == 200
        return reply.text

    return asyncio.run(ask())


def test_without_a_proxy_it_is_the_requests_own_host() -> None:
    assert asked({}) == "http://own:8000"


def test_a_trusted_proxy_is_believed() -> None:
    assert asked(FORWARDED) == "https://faces.example/detail"


def test_a_proxy_may_leave_the_prefix_in_the_path() -> None:
    assert asked(FORWARDED, path="/detail/v2/here") == "https://faces.example/detail"


@pytest.mark.parametrize("client", ["203.0.113.7", "not an address"])
def test_a_stranger_is_not_believed(client: str) -> None:
    assert asked(FORWARDED, client=client) == "http://own:8000"


@pytest.mark.parametrize("proxies", [("10.0.0.0/8",), ("*",), ("::1", "10.1.2.3")])
def test_networks_and_all(proxies: tuple[str, ...]) -> None:
    assert asked(FORWARDED, proxies=proxies, client="10.1.2.3") == "https://faces.example/detail"


def test_of_several_proxies_the_nearest_is_believed() -> None:
    chain = {"x-forwarded-host": "forged.example, faces.example"}
    assert asked(chain) == "http://faces.example"


def test_the_setting_wins() -> None:
    public = "https://public.example/faces"
    assert asked(FORWARDED, public=public) == public
    assert asked({}, public=public) == public


@pytest.mark.parametrize(
    "host",
    [
        "evil.example/path",
        "evil.example?x=",
        "evil.example#",
        "user@evil.example",
        'faces.example"><script>',
        "faces example",
        "faces.example:99999",
        "faces.example:0",
        "faces.example:port",
        "[::1",
        "[zz]",
        "..",
        "a..b",
        "-",
        "faces.example\\@evil",
        "%66aces.example",
        "xn--",
        f"{'a' * 64}.example",
        "{host}",
        "$(host)",
        "a,",
    ],
)
def test_a_host_that_is_none_is_ignored(host: str) -> None:
    assert asked({"x-forwarded-host": host}) == "http://own:8000"
    # The server's own address, as its clients cannot be asked for another.
    assert asked({"host": host}) == "http://own:8000"


@pytest.mark.parametrize(
    "host",
    ["faces.example", "FACES.example:8443", "10.1.2.3", "[2001:db8::1]", "[::1]:8000", "my_host"],
)
def test_sane_hosts_are_kept(host: str) -> None:
    assert asked({"x-forwarded-host": host}) == f"http://{host}"
    assert asked({"host": host}) == f"http://{host}"


@pytest.mark.parametrize(
    "prefix",
    [
        "/a?b=",
        "/a#b",
        "//evil.example",
        "/../..",
        "/a/../b",
        "/./a",
        "/a b",
        '/a"><script>',
        "/a\\b",
        "/%2e%2e",
        "/é".encode(),
        "javascript:alert(1)",
        "/a//b",
    ],
)
def test_a_prefix_that_is_none_is_ignored(prefix: str | bytes) -> None:
    assert asked({"x-forwarded-prefix": prefix}) == "http://own:8000"


@pytest.mark.parametrize("prefix", ["/faces", "faces/", "/faces/v1.0/a-b_c~d"])
def test_sane_prefixes_are_kept(prefix: str) -> None:
    assert asked({"x-forwarded-prefix": prefix}) == f"http://own:8000/{prefix.strip('/')}"


@pytest.mark.parametrize("scheme", ["ws", "wss", "javascript", "HTTPS://x"])
def test_another_scheme_is_ignored(scheme: str) -> None:
    assert asked({"x-forwarded-proto": scheme}) == "http://own:8000"
