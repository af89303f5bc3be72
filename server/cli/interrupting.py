"""What a command says when Ctrl-C ends it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.errors import StoppedByUser

BEGINS_AGAIN = "The same command begins again."


@contextmanager
def stoppable(say: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C in the block ends the command with a sentence.

    Args:
        say: what was finished by then, and how to go on; called after it.

    Raises:
        StoppedByUser: by Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedByUser(say()) from None


@contextmanager
def whole() -> Iterator[None]:
    """Ctrl-C in the block takes effect at its end, the second time at once. In the main thread."""
    asked = False

    def wait(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def finished(done: int, pictures: int, how_to_go_on: str) -> str:
    """The sentence of a command that was asked for so many `pictures`."""
    if pictures == 1:
        return "Stopped before the picture was finished: the same command begins it again."
    return f"Stopped: {done} of {pictures} pictures are finished. {how_to_go_on}"
