"""How many faces of composed scenes are found, by their size and turn."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pipeline.geometry import iou
from pipeline.types import FaceBox
from server.evaluation.scenes import Scene

FOUND_IOU = 0.5
# Of a face's longer side; a face that takes half of the picture's side counts as filling it.
SIZES_PX = (24, 32, 64, 128, 256)
FILLING = 0.5
FILLS = "fills the picture"
UPRIGHT, *TURNED = TURNS = ("upright", "90°", "180°", "270°")


@dataclass(slots=True)
class Tally:
    """Counts of one class of faces, and of the finds of that class.

    `right_turns`: found ones whose turn was found too. `wrong`: finds that meet no face.
    """

    faces: int = 0
    found: int = 0
    right_turns: int = 0
    finds: int = 0
    wrong: int = 0

    @property
    def recall(self) -> float | None:
        """The share of faces that are found; None without any."""
        return self.found / self.faces if self.faces else None

    @property
    def precision(self) -> float | None:
        """The share of finds that are faces; None without any."""
        return 1 - self.wrong / self.finds if self.finds else None

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
            "finds": self.finds,
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
                total.finds += tally.finds
                total.wrong += tally.wrong
        return total


def size_names() -> list[str]:
    """The classes of sizes, in order."""
    spans = zip(SIZES_PX, [*SIZES_PX[1:], None], strict=True)
    return [f"{low}–{high} px" if high else f"from {low} px" for low, high in spans] + [FILLS]


def measure(scenes: Iterable[tuple[Scene, Sequence[FaceBox]]]) -> Figures:
    """The figures for scenes and what was found in each, best score first."""
    by_class = {(size, turn): Tally() for size in size_names() for turn in TURNS}
    for scene, finds in scenes:
        side_px = max(scene.image.width_px, scene.image.height_px)
        matches = match(scene.faces, finds)
        for face, find in zip(scene.faces, matches, strict=True):
            tally = by_class[_class_of(face, side_px)]
            tally.faces += 1
            if find is not None:
                tally.found += 1
                tally.right_turns += find.quarter_turns == face.quarter_turns
        met = {id(find) for find in matches}
        for find in finds:
            tally = by_class[_class_of(find, side_px)]
            tally.finds += 1
            tally.wrong += id(find) not in met
    return Figures(by_class)


def match(faces: Sequence[FaceBox], finds: Sequence[FaceBox]) -> list[FaceBox | None]:
    """The find of each face, or None: each find goes to the face that it covers best, if that has
    none yet and the IoU is at least `FOUND_IOU`.
    """
    matches: list[FaceBox | None] = [None] * len(faces)
    for find in finds:
        free = [index for index, taken in enumerate(matches) if taken is None]
        best = max(free, key=lambda index: iou(faces[index], find), default=None)
        if best is not None and iou(faces[best], find) >= FOUND_IOU:
            matches[best] = find
    return matches


def _class_of(box: FaceBox, side_px: int) -> tuple[str, str]:
    longer_px = box.longer_px
    turn = TURNS[box.quarter_turns]
    if longer_px >= FILLING * side_px:
        return FILLS, turn
    number = sum(longer_px >= low for low in SIZES_PX[1:])
    return size_names()[number], turn
