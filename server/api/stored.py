"""What the table of jobs keeps of a request and of its result, as JSON."""

from dataclasses import dataclass
from decimal import Decimal

from pydantic import TypeAdapter

from pipeline.report import Report
from server.types import DetailOptions


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request whose work comes later.

    `seed`: as sent (or drawn), of any size. `cost`: the most that it costs. `base_url`: what
    its own URLs begin with. `image_url`: where the picture is to be fetched; None if it lies among
    the job's files. `traceparent`: its sender's request, for traces.
    """

    options: DetailOptions
    seed: int
    cost: Decimal
    base_url: str
    image_url: str | None = None
    traceparent: str | None = None

    def to_json(self) -> str:
        """As the table keeps it."""
        return _REQUEST.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "StoredRequest":
        """What `to_json` gave."""
        return _REQUEST.validate_json(text)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What came of a job. `token` and `names`: see `server.api.files`; `sizes_bytes` in their
    order. `cost`: what was charged; None: the most, as earlier versions charged.
    """

    token: str
    names: tuple[str, ...]
    sizes_bytes: tuple[int, ...]
    width_px: int
    height_px: int
    report: Report
    seconds: float
    cost: Decimal | None = None

    def to_json(self) -> str:
        """As the table keeps it."""
        return _RESULT.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "StoredResult":
        """What `to_json` gave."""
        return _RESULT.validate_json(text)


_REQUEST = TypeAdapter(StoredRequest)
_RESULT = TypeAdapter(StoredResult)
