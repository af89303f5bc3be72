"""Which pictures a run is at: another run over the same folder does others meanwhile."""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from server.cli.outputs import place_of
from server.settings import Settings

_LOOK_EVERY_S: Final = 0.2
# Of a file's offset, which is a signed number of 64 bits.
_OFFSET_BITS: Final = 62


class Claims:
    """A byte per result of one file in the data folder, locked while its picture is worked on.

    The system unlocks what a process held when it ends, however it ends, so that nothing is left
    to be cleaned up. Locks are the process's, not the thread's.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is claimed where the data folder cannot be used; who writes there says so."""
        self._file: int | None = None
        with contextlib.suppress(OSError):
            path = settings.make_data_dir() / "claims.lock"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Give up all claims."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def is_free(self, output: Path) -> bool:
        """Whether no other process works on this result just now."""
        free = self._lock(output)
        if free:
            self._unlock(output)
        return free

    @contextlib.contextmanager
    def claimed(self, output: Path, stop: threading.Event | None = None) -> Iterator[bool]:
        """In the block the result is this process's; False: it is another's.

        `stop`: wait until the other has ended its work, or until this is set.
        """
        is_ours = self._lock(output)
        while not is_ours and stop is not None and not stop.wait(_LOOK_EVERY_S):
            is_ours = self._lock(output)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._unlock(output)

    def _lock(self, output: Path) -> bool:
        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(output))
        except (BlockingIOError, PermissionError):
            # POSIX has both for a lock that another holds.
            return False
        except OSError:
            # The file system has no locks.
            return True
        return True

    def _unlock(self, output: Path) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(output))


def _offset(output: Path) -> int:
    place = hashlib.sha256(os.fsencode(place_of(output))).digest()
    return int.from_bytes(place[:8]) >> (64 - _OFFSET_BITS)
