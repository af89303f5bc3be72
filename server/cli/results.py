"""What `face-detailer detail` gets of whoever does a picture, this machine or a server."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.report import FaceIdentity
from server.cli.bars import OnStage
from server.cli.outputs import Task


class PictureFailed(Exception):
    """One picture cannot be done; the text says why. The others may go on."""


class Interrupted(Exception):
    """The person at the command wants no more."""


@dataclass(frozen=True, slots=True)
class Done:
    """A picture that was detailed.

    `files`: an encoded picture per sample. `found`, `detailed`, `left_out`, `unchanged`, `unread`,
    `identity`: as in `pipeline.report.Report`. `cost`: in credits, where a server did it.
    """

    files: tuple[bytes, ...]
    found: int
    detailed: int
    left_out: Mapping[str, int]
    unchanged: int
    unread: tuple[str, ...]
    seconds: float
    seed: int
    cost: float | None = None
    identity: tuple[FaceIdentity, ...] = ()


class Worker(Protocol):
    """Does pictures: this machine's models, or a server."""

    @property
    def kind(self) -> Mapping[str, object]:
        """What of it shows in results, for `Records`; JSON's own types."""

    @property
    def jobs(self) -> int:
        """How many pictures it is given at a time, where nobody says."""

    def check(self, task: Task, data: bytes) -> None:
        """See what a picture's header tells.

        Raises:
            InvalidImage, BadParameter: it cannot be done.
        """

    def start(self) -> None:
        """Get ready.

        Raises:
            OperatorError: it cannot.
        """

    def detail(self, task: Task, data: bytes, on_stage: OnStage, stop: threading.Event) -> Done:
        """Do one picture; called from several threads.

        Raises:
            PictureFailed: it cannot be done.
            Interrupted: `stop` was set.
            OperatorError: nor can any other.
        """

    def kept(self, task: Task, data: bytes) -> None:
        """What `detail` has made of it lies where it belongs, or was printed."""
