"""The identity gate: whoever a face is taken for after its repaint is whoever it was before.

A repaint that makes another person of a face is done once more from less noise; if that does not
help, the face stays as it was.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from pipeline.compositing import cut, take_out
from pipeline.report import FaceIdentity, Judgement
from pipeline.run import Face, Run
from pipeline.stages import Recogniser
from pipeline.types import CropRegion, Image, Share

# The second repaint's share of the first one's strength.
WEAKER: Final = 0.5
# What the recogniser sees: a square so many times the face's longer side, at this size. The face in
# it is somewhat larger than the 112 and 150 px that the networks align it to.
_CROP_FACTOR: Final = 2.0
_CROP_PX: Final = 320

Painted: TypeAlias = tuple[int, Face]
"""A sample, counted from 0, and a face that was repainted in it."""
Verdict: TypeAlias = tuple[float | None, Judgement]
"""As in `FaceIdentity`."""
Repaint = Callable[[list[Image], Sequence[Sequence[Face]]], list[Image]]
"""All passes over some faces of each sample's picture."""


class IdentityGate:
    """A recogniser, and the cosine from which on a face is still the same person's."""

    def __init__(self, recogniser: Recogniser, threshold: float) -> None:
        self._recogniser = recogniser
        self._threshold = threshold

    def judge(
        self,
        run: Run,
        before: Sequence[Image],
        after: Sequence[Image],
        faces: Sequence[Face],
        repaint: Repaint,
    ) -> list[Image]:
        """Every sample's picture with the repaints that may stay; `run.identity` says which did,
        and `run.shares` has no others.

        Args:
            run: the call.
            before: each sample's picture without these faces' repaints.
            after: the same with them.
            faces: those whose boxes lie apart; of what their paints share, a face that is taken
                back leaves the others theirs.
            repaint: paints faces once more, into pictures without them.
        """
        everyone = [(sample, face) for sample in range(len(after)) for face in faces]
        verdicts = self._look(run, before, after, [key for key in everyone if key in run.painted])
        doubtful = {key: verdict for key, verdict in verdicts.items() if verdict[1] == "left"}
        pictures = list(after)
        if doubtful:
            pictures, second = self._try_again(run, before, pictures, faces, doubtful, repaint)
            verdicts |= second
        run.identity += [
            FaceIdentity(face.number, sample + 1, *verdict)
            for (sample, face), verdict in verdicts.items()
        ]
        return pictures

    def _try_again(
        self,
        run: Run,
        before: Sequence[Image],
        after: Sequence[Image],
        faces: Sequence[Face],
        doubtful: Mapping[Painted, Verdict],
        repaint: Repaint,
    ) -> tuple[list[Image], dict[Painted, Verdict]]:
        weaker = {
            (sample, face): (sample, replace(face, strength=WEAKER * face.strength))
            for sample, face in doubtful
        }
        pictures = _take_back(run, after, before, faces, doubtful)
        tried = [[face for of, face in weaker.values() if of == i] for i in range(len(pictures))]
        pictures = repaint(pictures, tried)
        painted = [again for again in weaker.values() if again in run.painted]
        found = self._look(run, before, pictures, painted)
        verdicts: dict[Painted, Verdict] = {}
        for key, again in weaker.items():
            cosine, outcome = found.get(again, (None, "left"))
            if outcome == "kept":
                verdicts[key] = cosine, "weaker"
                run.shares[key] = run.shares.pop(again)
            else:
                cosines = [cosine for cosine in (doubtful[key][0], cosine) if cosine is not None]
                verdicts[key] = max(cosines), "left"
        # To whoever counts and pays there was one repaint of each face.
        run.asked.difference_update(weaker.values())
        run.painted.difference_update(weaker.values())
        return _take_back(run, pictures, before, faces, weaker.values()), verdicts

    def _look(
        self,
        run: Run,
        before: Sequence[Image],
        after: Sequence[Image],
        painted: Sequence[Painted],
    ) -> dict[Painted, Verdict]:
        """In the first look "left" means that it should not stay as it is."""
        verdicts: dict[Painted, Verdict] = {}
        for sample, face in painted:
            # One at a time: whoever waits no more is asked before each.
            with run.stage("identity"):
                box = face.box
                side_px = _CROP_FACTOR * box.longer_px
                region = CropRegion(box.centre_xy, side_px, _CROP_PX, box.quarter_turns)
                crops = [cut(pictures[sample], box, region) for pictures in (before, after)]
                cosine = self._recogniser.likeness(*crops)
                outcome: Judgement = "unknown"
                if cosine is not None:
                    outcome = "left" if cosine < self._threshold else "kept"
                verdicts[sample, face] = cosine, outcome
        return verdicts


def _take_back(
    run: Run,
    pictures: Sequence[Image],
    before: Sequence[Image],
    faces: Sequence[Face],
    painted: Iterable[Painted],
) -> list[Image]:
    """Each sample's picture without these repaints of `faces`, as far as they are still in it."""
    gone: list[list[Share]] = [[] for _ in pictures]
    kept: list[list[Share]] = [[] for _ in pictures]
    for key in painted:
        gone[key[0]] += run.shares.pop(key, [])
    for (sample, face), shares in run.shares.items():
        kept[sample] += shares if face in faces else ()
    return [
        take_out(picture, original, its_own, others) if its_own else picture
        for picture, original, its_own, others in zip(pictures, before, gone, kept, strict=True)
    ]
