"""HTTP: one call, tried again while the server or the network is away for a moment."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx
import tenacity

from face_detailer_client.errors import (
    Cancelled,
    FaceDetailerError,
    TooManyRequests,
    Unavailable,
    Unreachable,
    refused,
)
from face_detailer_client.values import ShouldStop

IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
"""Calls that carry it with the same text are one work and one charge."""

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_AGAIN: Final = (Unreachable, TooManyRequests, Unavailable)
# After these, unlike 502 and 504, it is certain that nothing was done.
_NOTHING_DONE: Final = (429, 503)
_LONGEST_WAIT_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.1


class Wire:
    """The way to one server; for several threads at a time."""

    def __init__(self, url: str, key: str, patience_s: float, http: httpx.Client | None) -> None:
        """`patience_s`: for how long calls that find no server, or a busy one, are tried again."""
        self._base = url
        self._headers = {"x-api-key": key} if key else {}
        self._patience_s = patience_s
        self._http = http or httpx.Client(timeout=_TIMEOUT)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def json(
        self, method: str, path: str, should_stop: ShouldStop, **arguments: Any
    ) -> Mapping[str, Any]:
        """The JSON object with which a path answers. See `reply`."""
        reply = self.reply(method, path, should_stop, **arguments)
        with self.understood():
            return dict(reply.json())

    @contextmanager
    def understood(self) -> Iterator[None]:
        """For a block that reads what the server said, and does nothing else.

        Raises:
            FaceDetailerError: it is not what a face-detailer server says.
        """
        try:
            yield
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            sentence = f"{self._base} does not answer as a face-detailer server does."
            raise FaceDetailerError(sentence) from error

    def reply(
        self, method: str, path: str, should_stop: ShouldStop, **arguments: Any
    ) -> httpx.Response:
        """A reply of status 2xx, or 422, which tells of a request that failed.

        A POST without an `Idempotency-Key` is tried again only if nothing can have come of it.

        Raises:
            Refused: any other, also after more tries if it is one that may change.
            Unreachable: none, after more tries.
            Cancelled: `should_stop` answered True while it was waited for the next one.
        """

        def wait(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if should_stop():
                    raise Cancelled("Request was cancelled", "")
                time.sleep(_LOOK_EVERY_S)

        repeatable = method == "GET" or IDEMPOTENCY_HEADER in arguments.get("headers", {})
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: _may_repeat(e, repeatable=repeatable)),
            stop=tenacity.stop_after_delay(self._patience_s),
            wait=_pause,
            sleep=wait,
            reraise=True,
        )
        return tries(self._once, method, path, **arguments)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[str]]:
        """The lines of a reply as they come. Tried once.

        Raises:
            Refused: the status is no 2xx.
            Unreachable: no answer, or it breaks off.
        """
        with (
            _reaching(self._base),
            self._http.stream("GET", self._base + path, headers={**self._headers, **headers}) as r,
        ):
            if not r.is_success:
                r.read()
                raise _refusal(r)
            yield r.iter_lines()

    def _once(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {**self._headers, **arguments.pop("headers", {})}
        with _reaching(self._base):
            reply = self._http.request(method, self._base + path, headers=headers, **arguments)
        if not reply.is_success and reply.status_code != httpx.codes.UNPROCESSABLE_ENTITY:
            raise _refusal(reply)
        return reply


def _may_repeat(error: BaseException, *, repeatable: bool) -> bool:
    """Whether the call may be tried again. `repeatable`: twice is the same as once."""
    if repeatable or not isinstance(error, _AGAIN):
        return isinstance(error, _AGAIN)
    return not error.was_sent if isinstance(error, Unreachable) else error.status in _NOTHING_DONE


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        was_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        raise Unreachable(f"{url} cannot be reached: {why}", was_sent=was_sent) from error


def _refusal(reply: httpx.Response) -> FaceDetailerError:
    try:
        text = str(reply.json()["error"])
    except (ValueError, TypeError, KeyError):
        text = f"{reply.url} answered with status {reply.status_code}"
    after = reply.headers.get("retry-after", "")
    return refused(reply.status_code, text, float(after) if after.isdecimal() else None)


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: what the server says, else ever more."""
    error = state.outcome.exception() if state.outcome else None
    said = getattr(error, "retry_after_s", None)
    wait_s: float = 0.5 * 2**state.attempt_number if said is None else said
    return min(max(wait_s, 0.5), _LONGEST_WAIT_S)
