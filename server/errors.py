"""Every error that has an answer of its own; `replies` has the one table of status and text."""

from typing import Final


class ServerError(Exception):
    """The base. The text is for the sender, unless `server.api.replies` has a fixed one."""


class BadParameter(ServerError):
    """A field is missing, of the wrong type or out of range (400). `field`: its name, where there
    is one field at fault.
    """

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


class BadImage(ServerError):
    """The picture cannot be read (400). The text is the `<why>` of `Invalid image: <why>`."""


class TooLarge(ServerError):
    """The body or the picture passes a limit, which the text names (413)."""


class MissingKey(ServerError):
    """No API key was sent (401)."""


class BadKey(ServerError):
    """The API key is unknown or revoked (401)."""


class BadContentType(ServerError):
    """Neither JSON nor multipart/form-data (406)."""


class BadEncoding(ServerError):
    """The body is compressed in a way that is not read (415)."""


class NotEnoughCredits(ServerError):
    """The account cannot pay this call (406)."""


class UnknownPath(ServerError):
    """Nothing is served there (404)."""


class UnknownRequest(ServerError):
    """The account has no request with this id (404). The text is the id."""


PASSING: Final = 503
"""The HTTP status of failures that are over after a while, such as a full disk's."""


class StoredFailure(ServerError):
    """A stored job failed before; it is answered again as it was then (`status`)."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Cancelled(ServerError):
    """The stored job was cancelled by its sender (409)."""


class KeyReused(ServerError):
    """An idempotency key came again with another request (409)."""


class WrongMethod(ServerError):
    """The path is served, but not by this method (405)."""

    def __init__(self, allow: str) -> None:
        super().__init__(allow)
        self.allow = allow


class BadRange(ServerError):
    """The header Range of a request for a file cannot be understood (400)."""


class BeyondEnd(ServerError):
    """The header Range asks for what lies beyond the file's end (416). The text is the file's
    Content-Range.
    """

    def __init__(self, content_range: str) -> None:
        super().__init__(content_range)
        self.content_range = content_range


class RateLimited(ServerError):
    """The account sends too fast (429). `retry_after_s`: when it may send again."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Busy(ServerError):
    """The queue is full (429)."""


class StorageAway(ServerError):
    """The database, or the folder of pictures, cannot be read or written for now (503)."""


class StorageFull(StorageAway):
    """No room is left there (503)."""


class Starting(ServerError):
    """No worker is ready yet (503)."""


class NoWorker(ServerError):
    """Every worker is dead (503)."""


class TimedOut(ServerError):
    """The deadline passed (504)."""


class WorkFailed(ServerError):
    """The work itself failed (500); the cause is in the log, never on the wire."""


class NoMemory(WorkFailed):
    """The device's memory holds not even the smallest piece of the work (500)."""


class OperatorError(Exception):
    """What the operator asked for, by command or setting, cannot be done. The text says why.

    `exit_code`: that of the command line.
    """

    exit_code = 1


class UsageError(OperatorError):
    """An option, an argument or a variable has a value that it cannot have, whatever the machine
    and the files are like.
    """

    exit_code = 2


class StoppedByUser(OperatorError):
    """Ctrl-C has ended the command. The text says what was finished, and how to go on."""

    exit_code = 130  # as of shells
