"""The database's clock, since servers need not agree on the time of day."""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class DatabaseNowMs(FunctionElement[int]):
    """Unix milliseconds."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseNowMs, "sqlite")
def _now_in_sqlite(_element: DatabaseNowMs, _compiler: Any, **_options: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(DatabaseNowMs, "postgresql")
def _now_in_postgres(_element: DatabaseNowMs, _compiler: Any, **_options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
