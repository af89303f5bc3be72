"""What the client gives back."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Stage = Literal[
    "sending",
    "queued",
    "processing",
    "detecting",
    "found",
    "outline",
    "detail",
    "upscaling",
    "fetching",
]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request is.

    `stage`: what happens now; "found" is said once, when the faces are known. `ahead`: while it is
    queued, how many requests are before it. `faces`: how many count, 0 before that is known. `step`
    of `steps`: of one face in the pass "outline" or "detail". `done` of `total`: denoising steps
    over all passes, faces and samples; 0 of 0 while they are not known. `share`: of all work that
    is done, steps and enlargement, in [0, 1); 0 while it is not known.
    """

    stage: Stage
    ahead: int = 0
    faces: int = 0
    step: int = 0
    steps: int = 0
    done: int = 0
    total: int = 0
    share: float = 0.0


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file. `content_type`: as in `image/jpeg`."""

    data: bytes = field(repr=False)
    content_type: str
    width: int
    height: int

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file; it is there whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        file = Path(path)
        part = file.with_name(f".{file.name}.part")
        try:
            part.write_bytes(self.data)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        return file


@dataclass(frozen=True, slots=True)
class Faces:
    """How many faces were found, detailed, left out (by reason), and, over all samples, left
    unchanged because the model gave nothing usable.
    """

    found: int = 0
    detailed: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class FaceIdentity:
    """What the server's identity gate made of one face of one sample; both count from 1.

    `cosine`: between the face before and after its repaint, -1 to 1; None: not known. `outcome`:
    "kept"; "weaker", repainted once more from less noise; "left" as it was; or "unknown".
    """

    face: int
    sample: int
    cosine: float | None
    outcome: str


@dataclass(frozen=True, slots=True)
class Result:
    """A picture whose faces were detailed.

    `pictures`: one per sample. `cost`, `remaining_credits`: in credits. `inference_s`, `queue_s`,
    `total_s`: seconds. `prompt_unread`: the ends of prompts that were too long. `note`: what to
    know of the profile's results. `identity`: empty where the server has no such gate.
    """

    request_id: str
    pictures: tuple[Picture, ...]
    faces: Faces
    seed: int
    cost: float
    remaining_credits: float
    inference_s: float
    queue_s: float
    total_s: float
    prompt_unread: tuple[str, ...] = ()
    note: str = ""
    identity: tuple[FaceIdentity, ...] = ()

    @property
    def data(self) -> bytes:
        """The first picture's file."""
        return self.pictures[0].data

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the first picture.

        Raises:
            OSError: it cannot be written.
        """
        return self.pictures[0].save(path)


@dataclass(frozen=True, slots=True)
class Face:
    """What looks like a face. `box`: x0, y0, x1, y1 in pixels. `score`: 0–1. `quarter_turns`: the
    counter-clockwise turns by 90° that bring it upright. `reason`: why it does not count; None: it
    does.
    """

    box: tuple[float, float, float, float]
    score: float
    quarter_turns: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Detections:
    """What `Client.detect` found in a picture of `width` × `height` pixels. `faces`: those that
    count, in order. `rejected`: the others. `overlay`: a picture file with both drawn in, if it was
    asked for.
    """

    width: int
    height: int
    faces: tuple[Face, ...]
    rejected: tuple[Face, ...]
    overlay: bytes | None = field(default=None, repr=False)
