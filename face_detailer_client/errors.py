"""All that the client raises, beside `OSError` for files that it cannot read or write."""

from collections.abc import Mapping


class FaceDetailerError(Exception):
    """The base. The text is a sentence, the server's own where it has said one."""


class Unreachable(FaceDetailerError):
    """No answer: the address is wrong, or the network or the server is down. `was_sent`: whether
    the server may have got the call.
    """

    def __init__(self, text: str, *, was_sent: bool = True) -> None:
        super().__init__(text)
        self.was_sent = was_sent


class TimedOut(FaceDetailerError):
    """The result did not come within the call's `timeout_s`; the request was cancelled."""


class RequestFailed(FaceDetailerError):
    """The server accepted the request, and the work failed. It cost nothing. `known`: it had ended
    before this call, which had the same `idempotency_key`.
    """

    def __init__(self, text: str, request_id: str) -> None:
        super().__init__(text)
        self.request_id = request_id
        self.known = False


class Cancelled(RequestFailed):
    """The request was cancelled, by `should_stop` or by another caller. It cost nothing if the
    server heard of it: without a connection it may go on.
    """


class Refused(FaceDetailerError):
    """The server answered with an error. `status`: HTTP's. `retry_after_s`: when it may be better,
    where the server says.
    """

    def __init__(self, text: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


class InvalidRequest(Refused):
    """A field or the picture is wrong, or the request is unknown (other 4xx)."""


class Unauthorized(Refused):
    """There is no API key, or it is not valid (401)."""


class NotEnoughCredits(Refused):
    """The account cannot pay (406)."""


class TooManyRequests(Refused):
    """The rate limit or the queue is full (429), and stayed so over all retries."""


class Unavailable(Refused):
    """The server is starting, full or gone, or too slow for its proxy (502, 503, 504), and stayed
    so over all retries.
    """


class ServerFault(Refused):
    """The server failed (other 5xx)."""


_BY_STATUS: Mapping[int, type[Refused]] = {
    401: Unauthorized,
    406: NotEnoughCredits,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def refused(status: int, text: str, retry_after_s: float | None) -> Refused:
    """The error for a status of 300 or more."""
    kind = _BY_STATUS.get(status, ServerFault if status >= 500 else InvalidRequest)
    return kind(text, status, retry_after_s)
