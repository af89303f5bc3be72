"""How many faces of composed scenes are found, by their size and turn."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from evaluation.detect.scenes import Scene
from evaluation.matching import match
from pipeline.types import FaceBox

# Of a face's longer side; a face that takes half of the picture's side counts as filling it.
SIZES_PX = (24, 32, 64, 128, 256)
FILLING = 0.5
FILLS = "fills the picture"
UPRIGHT, *TURNED = TURNS = ("upright", "90°", "180°", "270°")


@dataclass(slots=True)
class Tally:
    """Counts of one class of faces, and of the detections of that class.

    `right_turns`: found ones whose turn was found too. `wrong`: detections that meet no face.
    """

    faces: int = 0
    found: int = 0
    right_turns: int = 0
    detections: int = 0
    wrong: int = 0

    @property
    def recall(self) -> float | None:
        """The share of faces that are found; None without any."""
        return self.found / self.faces if self.faces else None

    @property
    def precision(self) -> float | None:
        """The share of detections that are faces; None without any."""
        return 1 - self.wrong / self.detections if self.detections else None

    @property
    def turn_right(self) -> float | None:
        """The share of found faces whose turn is right; None without any."""
        return self.right_turns / self.found if self.found else None

    def as_json(self) -> dict[str, float | None]:
        """All figures."""
        return {
            "faces": self.faces,
            "recall": self.recall,
            "turn_right": self.turn_right,
            "detections": self.detections,
            "precision": self.precision,
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured: `by_class` by (size, turn)."""

    by_class: dict[tuple[str, str], Tally]

    def sum(self, sizes: Collection[str], turns: Collection[str]) -> Tally:
        """All classes of these sizes and turns together."""
        total = Tally()
        for (size, turn), tally in self.by_class.items():
            if size in sizes and turn in turns:
                total.faces += tally.faces
                total.found += tally.found
                total.right_turns += tally.right_turns
                total.detections += tally.detections
                total.wrong += tally.wrong
        return total


def size_names() -> list[str]:
    """The classes of sizes, in order."""
    spans = zip(SIZES_PX, [*SIZES_PX[1:], None], strict=True)
    return [f"{low}–{high} px" if high else f"from {low} px" for low, high in spans] + [FILLS]


def measure(scenes: Iterable[tuple[Scene, Sequence[FaceBox]]]) -> Figures:
    """The figures for scenes and what was found in each, best score first."""
    by_class = {(size, turn): Tally() for size in size_names() for turn in TURNS}
    for scene, detections in scenes:
        side_px = max(scene.image.width_px, scene.image.height_px)
        matches = match(scene.faces, detections)
        for face, found in zip(scene.faces, matches, strict=True):
            tally = by_class[_class_of(face, side_px)]
            tally.faces += 1
            if found is not None:
                tally.found += 1
                tally.right_turns += found.quarter_turns == face.quarter_turns
        met = {id(detection) for detection in matches}
        for detection in detections:
            tally = by_class[_class_of(detection, side_px)]
            tally.detections += 1
            tally.wrong += id(detection) not in met
    return Figures(by_class)


def _class_of(box: FaceBox, side_px: int) -> tuple[str, str]:
    longer_px = box.longer_px
    turn = TURNS[box.quarter_turns]
    if longer_px >= FILLING * side_px:
        return FILLS, turn
    number = sum(longer_px >= low for low in SIZES_PX[1:])
    return size_names()[number], turn
