"""Every error that has an answer of its own; `replies` has the one table of status and text."""


class ServerError(Exception):
    """The base. The text is for the sender, unless `server.replies` has a fixed one."""


class BadParameter(ServerError):
    """A field is missing, of the wrong type or out of range (400)."""


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


class NotEnoughCredits(ServerError):
    """The account cannot pay this call (406)."""


class UnknownPath(ServerError):
    """Nothing is served there (404)."""


class WrongMethod(ServerError):
    """The path is served, but not by this method (405)."""

    def __init__(self, allow: str) -> None:
        super().__init__(allow)
        self.allow = allow


class RateLimited(ServerError):
    """The account sends too fast (429). `retry_after_s`: when it may send again."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Busy(ServerError):
    """The queue is full (429)."""


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
    """What the operator asked for, by command or setting, cannot be done. The text says why."""
