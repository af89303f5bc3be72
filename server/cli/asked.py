"""What a server was asked for and has not been kept yet: a run after a killed one asks for the same
by the same key, and pays once.
"""

import contextlib
import time
import uuid
from typing import Final

from server.settings import Settings
from weights.files import write_file

# By then a server has forgotten what it was asked for, unless it is told to keep results longer.
_KEPT_S: Final = 86_400.0


class Asked:
    """A file per request, below the data folder, named after its work; it holds the request's
    `Idempotency-Key`, which is used for nothing else. Where the data folder cannot be used, every
    request has a key of its own.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_dir / "asked"

    def drop_old(self) -> None:
        """Forget what was asked for more than a day ago: nobody has come back for it."""
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if time.time() - file.stat().st_mtime > _KEPT_S:
                    file.unlink(missing_ok=True)

    def key(self, work: str) -> str:
        """The key to ask for this work by, as 32 hex digits: that of a run which did not live to
        keep its result or, without one, a new one, which is remembered.

        Args:
            work: what tells it from other work, as a file's name.
        """
        with contextlib.suppress(OSError, ValueError):
            return uuid.UUID((self._folder / work).read_text()).hex
        key = uuid.uuid4().hex
        with contextlib.suppress(OSError):
            self._settings.make_data_dir()
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_file(self._folder / work, key.encode())
        return key

    def forget(self, work: str) -> None:
        """Its result is kept, or there is none: whoever asks again wants new work."""
        with contextlib.suppress(OSError):
            (self._folder / work).unlink(missing_ok=True)
