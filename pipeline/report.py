"""What a result's sender is told beside the pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

from pipeline.types import Detection, Rejection

Reason = Rejection | Literal["skipped"]
Judgement = Literal["kept", "weaker", "left", "unknown"]
# Its score says that it is no face; the others are faces that were left as they are.
_NO_FACE: Final = "score"
_MOST_IN_A_LINE: Final = 100


@dataclass(frozen=True, slots=True)
class FaceIdentity:
    """What the identity gate made of one face of one sample; both count from 1, `face` among all
    that count, also those that a prompt skips.

    `cosine`: between the face before and after the repaint that `outcome` is about, in [-1, 1]; of
    a face that was left, the better one that was not enough. None: the recogniser saw no face.
    `outcome`: "kept" as first repainted; repainted once more and "weaker"; "left" as it was;
    "unknown", and kept, as nothing could be compared.
    """

    face: int
    sample: int
    cosine: float | None
    outcome: Judgement

    @property
    def text(self) -> str:
        """As in `2:kept=0.873`, or `2/3:kept=0.873` in the third sample."""
        place = f"{self.face}" if self.sample == 1 else f"{self.face}/{self.sample}"
        cosine = "" if self.cosine is None else f"={self.cosine:.3f}"
        return f"{place}:{self.outcome}{cosine}"

    @property
    def figures(self) -> dict[str, object]:
        """For JSON; four digits of the cosine say enough."""
        cosine = None if self.cosine is None else round(self.cosine, 4)
        return {**asdict(self), "cosine": cosine}


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a picture's faces, in numbers.

    `found`: how many faces the picture has, by their scores. `detailed`: how many of them were
    repainted. `left_out`: how many were not, by reason: why they do not count, or "skipped" by the
    prompt or a denoise of 0. `unchanged`: how many repaints, over all samples, were left out
    because the model gave nothing usable. `unread`: the ends of prompts that were longer than the
    model reads, each text once. `note`: the profile's. `steps`: of denoising that were taken, over
    all samples, for faces with a usable repaint; what the identity gate asked for again is not
    counted, nor what it took back. `identity`: its words on each repainted face, sample by sample;
    empty where it is off.
    """

    found: int = 0
    detailed: int = 0
    left_out: Mapping[Reason, int] = field(default_factory=dict)
    unchanged: int = 0
    unread: tuple[str, ...] = ()
    note: str = ""
    steps: int = 0
    identity: tuple[FaceIdentity, ...] = ()

    @property
    def taken_back(self) -> int:
        """How many repaints, over all samples, were taken back as too unlike the face."""
        return sum(face.outcome == "left" for face in self.identity)

    @property
    def identity_text(self) -> str:
        """As in `1:kept=0.873, 2:left=0.412`; of so many faces that proxies may still take it."""
        return ", ".join(face.text for face in self.identity[:_MOST_IN_A_LINE])

    @property
    def left_out_text(self) -> str:
        """As in `size=2, budget=1`."""
        return ", ".join(f"{reason}={count}" for reason, count in self.left_out.items())


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A device's memory, in bytes. `used`: by every program. `reserved`: by this one."""

    total: int
    used: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What the loaded models have done since they were loaded, and the memory they have now.

    `calls`: of the denoising network. `rows`: what these calls worked on, all together. `places`:
    how many rows they had room for. `memory`: None on a CPU.
    """

    calls: int = 0
    rows: int = 0
    places: int = 0
    memory: DeviceMemory | None = None


def count_left_out(rejected: Sequence[Detection], skipped: int) -> dict[Reason, int]:
    """How many faces were left out, by reason, in the order of the first of each."""
    reasons: Counter[Reason] = Counter(
        detection.rejected
        for detection in rejected
        if detection.rejected is not None and detection.rejected != _NO_FACE
    )
    if skipped:
        reasons["skipped"] = skipped
    return dict(reasons)
