"""Downloads one file over HTTP, with resumption by range requests and with retries."""

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import tenacity

from weights.errors import NoAnswer, WrongFile

OnBytes = Callable[[int], None]
"""Called with the bytes received so far."""
OnWait = Callable[[float], None]
"""Called with the seconds that a server asks to wait, before waiting."""

LONGEST_WAIT_S = 60.0
# As long as a server may ask to wait: the hub's limits hold for windows of five minutes.
LONGEST_ASKED_WAIT_S = 600.0
_TRANSIENT_STATUS = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
# As the hub writes it: `"resolvers";r=0;t=55`.
_RESET = re.compile(r";\s*t\s*=\s*(\d+)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """When to give up.

    `tries`: attempts in a row without progress. `wait_s`: pause after the first one; it doubles.
    `timeout_s`: how long connecting, or the next byte, may take.
    """

    tries: int = 6
    wait_s: float = 1.0
    timeout_s: float = 30.0


class _Cut(httpx.TransportError):
    """The response ended before the file did, or started at the wrong byte."""


def new_client(patience: Patience) -> httpx.Client:
    """A client for `fetch`: follows redirects; takes proxies and CA files from the environment."""
    # In a compressed response, a range would count compressed bytes.
    headers = {"accept-encoding": "identity", "user-agent": "face-detailer"}
    return httpx.Client(follow_redirects=True, timeout=patience.timeout_s, headers=headers)


def fetch(
    client: httpx.Client,
    address: str,
    part: Path,
    exact_bytes: int,
    patience: Patience,
    on_bytes: OnBytes,
    on_wait: OnWait,
    token: str | None = None,
) -> None:
    """Complete the file `part`, which may already contain the beginning, from any process.

    The content is not checked: compare its hash afterwards.

    Args:
        client: see `new_client`.
        address: the file's URL; a user name and password in it are used but never shown.
        part: grows as bytes arrive, and is kept on failure.
        exact_bytes: the file's size.
        patience: when to give up.
        on_bytes: see `OnBytes`.
        on_wait: see `OnWait`.
        token: a bearer token for the address's own host; no other that it redirects to sees it.

    Raises:
        NoAnswer: the server cannot be reached, stalls, or does not have the file.
        WrongFile: the server's file has another size.
        OSError: `part` cannot be written.
    """
    transfer = _Transfer(client, address, part, exact_bytes, on_bytes, token)

    def tell(state: tenacity.RetryCallState) -> None:
        if asked_wait_s(_error(state)) is not None and state.next_action:
            on_wait(state.next_action.sleep)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=lambda state: _wait_s(state, patience.wait_s * 2 ** max(0, transfer.idle_tries - 1)),
        stop=lambda _: transfer.idle_tries >= patience.tries,
        before_sleep=tell,
        reraise=True,
    )
    try:
        retrying(transfer)
    except httpx.HTTPStatusError as error:
        response, asked_s = error.response, asked_wait_s(error)
        remedy = "If that address is a mirror, check that it has this file and grants you access"
        if asked_s is not None:
            remedy = f"It asks to wait {asked_s:.0f} s: run the same command again after that"
        raise NoAnswer(
            f"expected the file from {shown(address)}, "
            f"got HTTP {response.status_code} {response.reason_phrase}. {remedy}"
        ) from error
    except httpx.HTTPError as error:
        raise NoAnswer(
            f"expected the file from {shown(address)}, got no complete answer: "
            f"{error or type(error).__name__}. What was received is kept: run the same command "
            "again, set a mirror, or import the files on this machine"
        ) from error


def shown(address: str) -> str:
    """The address for messages: without user name, password and query."""
    return str(httpx.URL(address).copy_with(userinfo=b"", query=None))


class _Transfer:
    """One attempt per call, until the part is complete."""

    def __init__(
        self,
        client: httpx.Client,
        address: str,
        part: Path,
        exact_bytes: int,
        on_bytes: OnBytes,
        token: str | None,
    ) -> None:
        self._client = client
        self._address = address
        self._part = part
        self._exact_bytes = exact_bytes
        self._on_bytes = on_bytes
        # httpx drops it on the way to another host.
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._most_bytes = _size(part)
        self.idle_tries = 0
        """Attempts in a row that made no progress."""

    def __call__(self) -> None:
        try:
            self._attempt()
        except httpx.HTTPError:
            size = _size(self._part)
            self.idle_tries = 0 if size > self._most_bytes else self.idle_tries + 1
            self._most_bytes = max(self._most_bytes, size)
            raise

    def _attempt(self) -> None:
        have, wanted = _size(self._part), self._exact_bytes
        if have >= wanted:
            return
        headers = self._headers | ({"range": f"bytes={have}-"} if have else {})
        with self._client.stream("GET", self._address, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                # The part is longer than the file there.
                self._part.unlink()
            response.raise_for_status()
            offset, total = _offered(response)
            if offset not in (0, have):
                self._part.unlink()
                raise _Cut(f"the answer starts at byte {offset}, not {have}")
            if total not in (None, wanted):
                raise WrongFile(
                    f"expected {wanted} bytes from {shown(self._address)}, got a file of {total}"
                    ". If that address is a mirror, it has a different file there"
                )
            self._receive(response, offset)

    def _receive(self, response: httpx.Response, offset: int) -> None:
        total = self._exact_bytes
        with self._part.open("ab" if offset else "wb") as stream:
            for chunk in response.iter_bytes():
                stream.write(chunk)
                self._on_bytes(stream.tell())
                if stream.tell() > total:
                    break
        if _size(self._part) < total:
            raise _Cut(f"the answer ended after {_size(self._part)} of {total} bytes")


def _offered(response: httpx.Response) -> tuple[int, int | None]:
    """The position of the response's first byte in the file, and the file's size, if given."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None:
            raise _Cut("the answer does not say which part of the file it is")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("content-length")
    whole = length is not None and "content-encoding" not in response.headers
    return 0, int(length) if whole else None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def asked_wait_s(error: BaseException | None) -> float | None:
    """How long a server that refused asks to wait, by `Retry-After` (seconds, or a date) or by the
    hub's `RateLimit`; None: it does not say.
    """
    if not isinstance(error, httpx.HTTPStatusError):
        return None
    headers = error.response.headers
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    with contextlib.suppress(ValueError):
        return max(parsedate_to_datetime(asked).timestamp() - time.time(), 0.0)
    reset = _RESET.search(headers.get("ratelimit", ""))
    return float(reset[1]) if reset and error.response.status_code == 429 else None


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        soon = (asked_wait_s(error) or 0) <= LONGEST_ASKED_WAIT_S
        return error.response.status_code in _TRANSIENT_STATUS and soon
    return isinstance(error, httpx.TransportError)


def _wait_s(state: tenacity.RetryCallState, growing_s: float) -> float:
    """As long as the server asks for, otherwise `growing_s`, at most `LONGEST_WAIT_S`."""
    asked_s = asked_wait_s(_error(state))
    return min(growing_s, LONGEST_WAIT_S) if asked_s is None else asked_s
