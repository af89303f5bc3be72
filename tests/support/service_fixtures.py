"""A server that only enlarges pictures, at once, for tests of whatever is not about faces."""

from collections.abc import Iterator

import pytest
from http_service import ResizeEngine, Service, running

from server.settings import Settings


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(Settings(data_dir=tmp_path_factory.mktemp("data"))) as service:
        yield service


@pytest.fixture
def service(shared_service: Service) -> Iterator[Service]:
    """The server with default settings; its engine is put back after each test."""
    yield shared_service
    try:
        shared_service.until_idle()
    finally:
        vars(shared_service.engine).update(vars(ResizeEngine()))
