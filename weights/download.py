"""One file over HTTP: resumed by range after a cut, tried again while that may help."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import tenacity

from weights.errors import NoAnswer, WrongFile

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes that are there, and with all that there will be, where that is known."""

LONGEST_WAIT_S = 60.0
_TRANSIENT_STATUS = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """`tries`: how many in a row may bring no byte. `wait_s`: after the first; doubles.

    `timeout_s`: how long a server may take to connect, or to send the next byte.
    """

    tries: int = 6
    wait_s: float = 1.0
    timeout_s: float = 30.0


class _Cut(httpx.TransportError):
    """The answer ended before the file did, or started at another byte than asked for."""


def new_client(patience: Patience) -> httpx.Client:
    """A client for `fetch`: follows redirects; proxies and CA files as the environment says."""
    # Compressed on the way, a range would count compressed bytes.
    headers = {"accept-encoding": "identity", "user-agent": "face-detailer"}
    return httpx.Client(follow_redirects=True, timeout=patience.timeout_s, headers=headers)


def fetch(
    client: httpx.Client,
    address: str,
    part: Path,
    exact_bytes: int | None,
    patience: Patience,
    on_bytes: OnBytes,
) -> None:
    """Fill `part`, which may hold the file's beginning already, from an earlier process too.

    Its content is not looked at: compare its hash afterwards.

    Args:
        client: see `new_client`.
        address: where the file is; user name and password in it are used, and never shown.
        part: grows as bytes arrive, and stays when this fails.
        exact_bytes: the file's size, where it is known.
        patience: when to give up.
        on_bytes: see `OnBytes`.

    Raises:
        NoAnswer: the server cannot be reached, stalls, or does not have the file.
        WrongFile: the server offers a file of another size.
        OSError: `part` cannot be written.
    """
    transfer = _Transfer(client, address, part, exact_bytes, on_bytes)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=lambda state: _wait_s(state, patience.wait_s * 2**transfer.idle_tries),
        stop=lambda _: transfer.idle_tries >= patience.tries,
        reraise=True,
    )
    try:
        retrying(transfer)
    except httpx.HTTPStatusError as error:
        response = error.response
        raise NoAnswer(
            f"expected the file from {shown(address)}, "
            f"got HTTP {response.status_code} {response.reason_phrase}. "
            "If that address is a mirror, see that it has this file and lets you in"
        ) from error
    except httpx.HTTPError as error:
        raise NoAnswer(
            f"expected the file from {shown(address)}, got no answer that lasts: "
            f"{error or type(error).__name__}. What arrived is kept: run the same command again, "
            "set a mirror, or import the files on this machine"
        ) from error


def shown(address: str) -> str:
    """An address as messages may show it: without user name, password and query."""
    return str(httpx.URL(address).copy_with(userinfo=b"", query=None))


class _Transfer:
    """Called again and again, until the part is complete."""

    def __init__(
        self,
        client: httpx.Client,
        address: str,
        part: Path,
        exact_bytes: int | None,
        on_bytes: OnBytes,
    ) -> None:
        self._client = client
        self._address = address
        self._part = part
        self._exact_bytes = exact_bytes
        self._on_bytes = on_bytes
        self._most_bytes = _size(part)
        self.idle_tries = 0
        """Tries in a row that left no more bytes than the best before them."""

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
        if wanted is not None and have >= wanted:
            return
        headers = {"range": f"bytes={have}-"} if have else {}
        with self._client.stream("GET", self._address, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                # The part is longer than the file, or is all of it, where no size is known.
                self._part.unlink()
            response.raise_for_status()
            offset, total = _offered(response)
            if offset not in (0, have):
                self._part.unlink()
                raise _Cut(f"the answer starts at byte {offset}, not {have}")
            if wanted is not None and total not in (None, wanted):
                raise WrongFile(
                    f"expected {wanted} bytes from {shown(self._address)}, got an offer of {total}"
                    ". If that address is a mirror, it has another file there"
                )
            self._receive(response, offset, wanted or total)

    def _receive(self, response: httpx.Response, offset: int, total: int | None) -> None:
        with self._part.open("ab" if offset else "wb") as stream:
            for chunk in response.iter_bytes():
                stream.write(chunk)
                self._on_bytes(stream.tell(), total)
                if total is not None and stream.tell() > total:
                    break
        if _size(self._part) < (total or 0):
            raise _Cut(f"the answer ended after {_size(self._part)} of {total} bytes")


def _offered(response: httpx.Response) -> tuple[int, int | None]:
    """The answer's first byte within the file, and the file's size, where it is told."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None:
            raise _Cut("the answer does not tell which part of the file it is")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("content-length")
    whole = length is not None and "content-encoding" not in response.headers
    return 0, int(length) if whole else None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _TRANSIENT_STATUS
    return isinstance(error, httpx.TransportError)


def _wait_s(state: tenacity.RetryCallState, growing_s: float) -> float:
    """As long as the server asks for, else as given."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, httpx.HTTPStatusError):
        asked = error.response.headers.get("retry-after", "")
        if asked.isdecimal():
            return min(float(asked), LONGEST_WAIT_S)
    return min(growing_s, LONGEST_WAIT_S)
