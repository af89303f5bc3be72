"""A database for a cluster."""

import uuid

import pytest


@pytest.fixture(scope="module")
def cluster_database(postgres: str) -> str:
    """The address of an empty schema of PostgreSQL."""
    import psycopg

    name = f"cluster_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{postgres}&options=-csearch_path%3D{name}"
