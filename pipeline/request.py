"""What one call of `FaceDetailer` is asked to do, and what it gives back."""

import re
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.checks import check, check_array
from pipeline.report import FaceIdentity, Report, count_left_out
from pipeline.timing import StageTime, seconds_of
from pipeline.types import Detection, FaceBox, Image

Passes = Literal["both", "detail", "auto"]
FaceOrder = Literal["size", "left-right", "top-bottom", "score"]

_SEPARATOR = re.compile(r"\[\s*SEP\s*\]", re.IGNORECASE)
_SKIP = re.compile(r"\[\s*SKIP\s*\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which detections count as faces, and in which order they are taken.

    `detection_threshold`: the least score, 0–1; None takes the profile's. `max_faces`: only the
    largest so many. `min_face_px`: the least shorter side. `face_order`: what `[SEP]` prompts
    follow. `affordable`: how many faces the request's budget of steps pays for, the largest of
    those that are left; None: no limit.
    """

    detection_threshold: float | None = None
    max_faces: int = 20
    min_face_px: float = 12.0
    face_order: FaceOrder = "size"
    affordable: int | None = None

    def __post_init__(self) -> None:
        threshold = self.detection_threshold
        check(threshold is None or 0 <= threshold <= 1, "a threshold in [0, 1]", threshold)
        check(self.max_faces >= 0, "max_faces of 0 or more", self.max_faces)
        check(0 <= self.min_face_px < inf, "min_face_px of 0 or more", self.min_face_px)
        affordable = self.affordable
        check(affordable is None or affordable >= 0, "affordable of 0 or more", affordable)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the faces of a picture are repainted, and by how much it is enlarged.

    `prompt` and `negative_prompt` may hold a text per face: see `face_texts`. `seed`: any
    non-negative integer; sample i uses seed + i (modulo 2⁶³). `upscale`: 1, 2 or 4.
    `keep_healthy`: large and sharp faces change less, see `pipeline.health.strength_share`.
    `keep_grain`: repainted faces get the picture's grain back, see `pipeline.grain`.
    """

    prompt: str
    denoise: float
    negative_prompt: str = "bad quality, painting, blur"
    samples: int = 1
    num_inference_steps: int = 20
    guidance_scale: float = 6.0
    seed: int = 12467
    upscale: int = 1
    passes: Passes = "both"
    keep_healthy: bool = True
    keep_grain: bool = True

    def __post_init__(self) -> None:
        check(0 <= self.denoise <= 1, "denoise in [0, 1]", self.denoise)
        check(self.samples >= 1, "at least one sample", self.samples)
        check(self.num_inference_steps >= 1, "at least one step", self.num_inference_steps)
        check(self.seed >= 0, "a seed of 0 or more", self.seed)
        check(self.upscale in (1, 2, 4), "an upscale of 1, 2 or 4", self.upscale)


@dataclass(frozen=True, slots=True)
class DetailRequest:
    """What one call of `FaceDetailer` is asked to do.

    `alpha`: (H, W) uint8 of the picture's size, or None for an opaque one; it is not repainted,
    only enlarged.
    """

    image: Image
    recipe: Recipe
    selection: Selection = field(default_factory=Selection)
    alpha: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_array(self.alpha, np.uint8, 2, "alpha")
            check(
                self.alpha.shape == self.image.pixels.shape[:2],
                "alpha of the picture's size",
                self.alpha.shape,
            )


@dataclass(frozen=True, slots=True)
class DetailResult:
    """What one call gives back.

    `images`: one per sample, enlarged. `alpha`: enlarged likewise, or None. `faces`: in the input's
    pixels, in the order in which they were repainted. `unchanged`: how many faces, over all
    samples, kept their old pixels because the model gave nothing usable: not finite, or blank.
    `unread`: the ends of prompts that were longer than the model reads, each text once. `skipped`:
    how many faces count, but are in `faces` not, as their prompt or a denoise of 0 says. `note`:
    the profile's.
    `steps`, `identity`: as in `Report`.
    `rejected`: what else the detector took for a face, and why it does not count, the best first.
    `stages`: when each began and ended, in the order walked.
    """

    images: tuple[Image, ...]
    alpha: NDArray[np.uint8] | None
    faces: tuple[FaceBox, ...]
    unchanged: int = 0
    stages: tuple[StageTime, ...] = ()
    rejected: tuple[Detection, ...] = ()
    unread: tuple[str, ...] = ()
    skipped: int = 0
    note: str = ""
    steps: int = 0
    identity: tuple[FaceIdentity, ...] = ()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time per stage, in the order walked."""
        return seconds_of(self.stages)

    @property
    def report(self) -> Report:
        """All that in numbers."""
        left_out = count_left_out(self.rejected, self.skipped)
        detailed = len(self.faces)
        found = detailed + sum(left_out.values())
        return Report(
            found,
            detailed,
            left_out,
            self.unchanged,
            self.unread,
            self.note,
            self.steps,
            self.identity,
        )


def face_texts(prompt: str, faces: int) -> list[str | None]:
    """One text per face, in the faces' order; None leaves that face alone.

    Texts are separated by `[SEP]`, and `[SKIP]` asks to leave a face alone; both in any case, also
    with blanks inside the brackets. With fewer texts than faces, the last one serves the rest.

    >>> face_texts("a smiling man [SEP] [SKIP] [SEP] a girl", 4)
    ['a smiling man', None, 'a girl', 'a girl']
    """
    texts = [text.strip() for text in _SEPARATOR.split(prompt)]
    chosen = [texts[min(index, len(texts) - 1)] for index in range(faces)]
    return [None if _SKIP.fullmatch(text) else text for text in chosen]
