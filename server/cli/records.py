"""What `face-detailer detail` has finished: by it a later run knows its own results, and skips what
would come out the same.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from server.cli.outputs import place_of
from server.settings import Settings
from weights.files import write_file
from weights.manifest import sha256_of

State = Literal["absent", "same", "other", "foreign"]


def work_of(picture: bytes, asked: Mapping[str, object]) -> str:
    """What tells one work from another: the picture's bytes and all that was asked for, as 64 hex
    digits.
    """
    text = json.dumps([hashlib.sha256(picture).hexdigest(), asked], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Records:
    """A file per result, below the data folder, named after the result's place."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_dir / "finished"

    def state(self, outputs: Sequence[Path], work: str) -> State:
        """What lies where a picture's results belong.

        "absent": not all of them are there. "same": they are what this work would make again.
        "other": results of this command, of other work. "foreign": something else.

        Raises:
            OSError: a file cannot be read.
        """
        there = [output for output in outputs if os.path.lexists(output)]
        works = [self._work_behind(output) for output in there]
        if None in works:
            return "foreign"
        if len(there) < len(outputs):
            return "absent"
        return "same" if set(works) == {work} else "other"

    def add(self, output: Path, data: bytes, work: str) -> None:
        """Remember a result that was written.

        Raises:
            OSError: the record cannot be written.
        """
        record = {"sha256": hashlib.sha256(data).hexdigest(), "work": work}
        self._settings.make_data_dir()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_file(self._file(output), json.dumps(record).encode())

    def _work_behind(self, output: Path) -> str | None:
        """The work whose result lies there, unchanged since; None: none that is known."""
        try:
            record = json.loads(self._file(output).read_bytes())
            known, work = record["sha256"], record["work"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return str(work) if output.is_file() and sha256_of(output) == known else None

    def _file(self, output: Path) -> Path:
        place = os.fsencode(place_of(output))
        return self._folder / f"{hashlib.sha256(place).hexdigest()}.json"
