"""One real server on the tiny profile, and one browser, for all tests of the page."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from http_service import Service
from page_browser import Visit, chromium, two_faces, visiting
from page_relay import Relay, relaying
from playwright.sync_api import Browser
from server_program import new_key
from service_fixtures import service, shared_service  # noqa: F401

Visiting = Callable[..., AbstractContextManager[Visit]]


@pytest.fixture(scope="module")
def key(environment: dict[str, str], server_url: str) -> str:
    assert server_url
    return new_key(environment, "1")


@pytest.fixture(scope="module")
def unlimited_key(environment: dict[str, str], server_url: str) -> str:
    assert server_url
    return new_key(environment, None)


# Not for the whole session: while Playwright runs, so does its event loop, in this very thread, and
# `asyncio.run` of every later test would fail.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Browser, server_url: str) -> Iterator[Visit]:
    """The page in a browser that was never here before."""
    with visiting(browser, server_url) as begun:
        yield begun


@pytest.fixture
def relay(service: Service) -> Iterator[Relay]:  # noqa: F811
    """Before that server, for what happens on the way."""
    with relaying(service.url) as begun:
        yield begun


@pytest.fixture
def its_key(service: Service) -> str:  # noqa: F811
    """A key of that server, with ten credits."""
    return service.new_key("10")


@pytest.fixture
def relayed(browser: Browser, relay: Relay, its_key: str) -> Iterator[Visit]:
    """The page with that key, by way of the relay."""
    with visiting(browser, relay.url) as begun:
        begun.use_key(its_key)
        yield begun


@pytest.fixture
def with_key(visit: Visit, key: str) -> Visit:
    visit.use_key(key)
    return visit


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with two faces: the larger one on the right, the smaller one on the left."""
    file = tmp_path_factory.mktemp("pictures") / "two faces.png"
    file.write_bytes(two_faces())
    return file
