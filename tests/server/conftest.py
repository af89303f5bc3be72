"""Servers for the contract's tests."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from accounts_fixtures import bank, cluster, database_settings, postgres  # noqa: F401
from http_service import Service, encoded, running
from service_fixtures import service, shared_service  # noqa: F401

from server.settings import Settings


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[Service]]:
    """`serve(name=value, …)`: a server of its own with these settings."""
    return lambda **settings: running(Settings(data_dir=tmp_path, **settings))


@pytest.fixture
def picture() -> bytes:
    return encoded()
