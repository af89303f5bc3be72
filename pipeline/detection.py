"""Finding faces of any size and turn: what the detector looks at, and which detections count."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import sqrt

import cv2
import numpy as np

from pipeline.compositing import cut
from pipeline.geometry import box_to_image, clipped, iou, mirrored_box, overlaps
from pipeline.request import FaceOrder, Selection
from pipeline.resampling import mirrored
from pipeline.stages import FaceDetector, ShouldStop, never
from pipeline.types import CropRegion, Detection, FaceBox, FaceCrop, Image
from pipeline.views import View, coarse, tiles, wholes

MERGE_IOU = 0.5
# A box of which this share lies in a better one, or the other way round, is the same face, a part
# of it, or it and its hair, if both are alike in size, or if its score is a small share of the
# better one's. Of 60 portraits, sound and damaged, such boxes had an IoU of 0.31 and more or a
# score of less than a sixth; of 80 faces in front of larger ones the IoU was 0.25 at most.
PART_SHARE = 0.5
PART_IOU = 0.3
PART_SCORE = 1 / 3
# More than any picture shows; a bound for those made to cost time and memory.
MOST_FINDS = 2048

# Seen upright, a turned face scores little. Finds from this share of the profile's threshold on,
# whatever threshold a request asks for, are looked at again in all turns, each of them twice: from
# near and, in a mirror, from further away, so many times the face's size in crops of `CROP_PX` a
# side. What only resembles a face seldom does so both times: at 0.5 a detector found something in 6
# of 131 photographs without people looking from near alone, in 2 looking twice, and no fewer faces
# in 52 with people.
SUSPICION = 0.1
# So many at a time, for the memory; in all the best so many, for the time, which a picture made to
# cost some would take. The others stay in the list, scored as if the second look saw nothing.
SUSPECTS_AT_A_TIME = 64
MOST_SUSPECTS = 1024
NEAR, FURTHER = 1.6, 2.2
CROP_PX = 128
SAME_FACE_IOU = 0.4
# Boxes of a coarse view are coarse: counted like the others, heavily damaged faces came half a
# percent less near, though 4 more of 152 were found.
SOFT_MARGIN = 0.5
# How smaller faces lie can hardly be told; they are taken as they were found.
TURNED_FROM_PX = 20.0
# By how much another turn must show the face better than the one in which it was found.
TURN_MARGIN = 0.05

# The second look's weight in the score. An earlier detector's figures: of 319 composed faces, half
# of them turned, 87 % of the turned ones reach 0.45 with 1/2, and 96 % with 3/4; with both do 99 %
# of the upright ones, and something in 5 of 116 pictures without faces. Where the first look was in
# another turn it says less.
SECOND_LOOK = 0.75
TURNED_SECOND_LOOK = 0.9
# Most composed faces from 32 px on score more, and next to nothing else does.
SURE = 0.7

# What the detector finds in each picture.
_See = Callable[[Sequence[Image]], list[list[FaceBox]]]

_ORDERS: dict[FaceOrder, Callable[[FaceBox], float]] = {
    "size": lambda face: -face.width_px * face.height_px,
    "left-right": lambda face: face.centre_xy[0],
    "top-bottom": lambda face: face.centre_xy[1],
    "score": lambda face: -face.score,
}


def find_faces(
    image: Image,
    detector: FaceDetector,
    input_px: int,
    threshold: float,
    should_stop: ShouldStop = never,
) -> list[FaceBox]:
    """What looks like a face, each inside the picture and with its turn, best score first: the
    faces, which score at least `threshold`, and what comes near it.

    The upright picture decides: what looks like a face there, if only vaguely, is looked at once
    more, in all turns. Only where no sure face comes of that, the whole picture is turned.

    A request's own threshold is applied afterwards, by `judge`: candidates and scores do not depend
    on it, so a lower one never finds fewer faces.

    Args:
        image: the picture, of any size.
        detector: what finds faces in pictures that fit it.
        input_px: the longer side of pictures that fit it.
        threshold: the profile's, 0–1.
        should_stop: asked while the detector looks.

    Raises:
        Stopped: it answered True.
    """

    def see(pictures: Sequence[Image]) -> list[list[FaceBox]]:
        return detector.detect(pictures, suspicion, should_stop)

    whole = list(wholes(image, input_px))
    suspicion = SUSPICION * threshold
    fine = [*whole, *tiles(image, input_px)]
    detections = _look(fine, see, soft=[coarse(image, input_px)])
    faces = _look_again(image, detections, see, suspicion)
    if not any(face.score >= max(SURE, threshold) for face in faces):
        others = [view.turned(turns) for view in whole for turns in (1, 2, 3)]
        detections = _look(others, see)
        faces = _merge([*faces, *_look_again(image, detections, see, suspicion)])
    return faces


def judge(faces: Sequence[FaceBox], threshold: float, selection: Selection) -> list[Detection]:
    """Which of the faces count, first, in the selection's order; then the others, the best first.

    `threshold`: the selection's own, or the profile's where it names none.
    """
    rejected: list[Detection] = []
    counting: list[FaceBox] = []
    affordable = len(faces) if selection.affordable is None else selection.affordable
    for face in faces:
        if face.score < threshold:
            rejected.append(Detection(face, "score"))
        elif min(face.width_px, face.height_px) < selection.min_face_px:
            rejected.append(Detection(face, "size"))
        else:
            counting.append(face)
    counting.sort(key=_ORDERS["size"])
    rejected += [Detection(face, "count") for face in counting[selection.max_faces :]]
    del counting[selection.max_faces :]
    rejected += [Detection(face, "budget") for face in counting[affordable:]]
    chosen = sorted(counting[:affordable], key=_ORDERS[selection.face_order])
    rejected.sort(key=lambda detection: -detection.box.score)
    return [*(Detection(face) for face in chosen), *rejected]


def _look(views: Sequence[View], see: _See, soft: Sequence[View] = ()) -> list[FaceBox]:
    """What the detector finds in all views together, in image pixels, best score first. `soft`:
    coarse ones.
    """
    found = iter(see([view.picture for view in (*views, *soft)]))
    fine, blurred = (
        _merge([back for view in part for box in next(found) if (back := view.to_image(box))])
        for part in (views, soft)
    )
    return _add_soft(fine, blurred) if blurred else fine


def _add_soft(detections: list[FaceBox], soft: list[FaceBox]) -> list[FaceBox]:
    """The finds and those of a coarse view, where a soft face is sharp. Of a face that both see the
    detections' box is kept, if it scores at least half as much, with the higher score.
    """
    together = list(detections)
    for box in soft:
        least = SOFT_MARGIN * box.score
        for place, face in enumerate(together):
            if face.score >= least and iou(face, box) >= SAME_FACE_IOU:
                together[place] = replace(face, score=max(face.score, box.score))
                break
        else:
            together.append(box)
    return _merge(together)


def _merge(boxes: Sequence[FaceBox]) -> list[FaceBox]:
    """Of boxes that lie on or in each other the best one; best first, `MOST_FINDS` at most."""
    corners = [(box.x0, box.y0, box.width_px, box.height_px) for box in boxes]
    scores = [box.score for box in boxes]
    best = cv2.dnn.NMSBoxes(corners, scores, 0.0, MERGE_IOU, top_k=MOST_FINDS)
    merged = [boxes[int(index)] for index in best]
    ious, shares = overlaps(merged)
    scores_of = np.array([box.score for box in merged])
    faint = scores_of[:, None] < PART_SCORE * scores_of
    same = (shares >= PART_SHARE) & ((ious >= PART_IOU) | faint)
    _, worse = np.nonzero(np.triu(same.T, 1))
    dropped = set(worse.tolist())
    return [box for index, box in enumerate(merged) if index not in dropped]


def _look_again(
    image: Image, detections: Sequence[FaceBox], see: _See, threshold: float
) -> list[FaceBox]:
    """The detections, each with the turn that shows it best; best score first."""
    faces: list[FaceBox] = []
    for start in range(0, min(len(detections), MOST_SUSPECTS), SUSPECTS_AT_A_TIME):
        some = detections[start : min(start + SUSPECTS_AT_A_TIME, MOST_SUSPECTS)]
        faces += _look_again_at(image, some, see, threshold)
    for box in detections[MOST_SUSPECTS:]:
        faces.append(replace(box, score=_both(box.score, threshold, SECOND_LOOK)))
    return _merge(faces)


def _look_again_at(
    image: Image, suspects: Sequence[FaceBox], see: _See, threshold: float
) -> list[FaceBox]:
    """The suspects that lie in the picture, each with the turn that shows it best.

    The score becomes the weighted geometric mean of both looks; one that sees nothing counts as
    `threshold`. A find that no other turn shows clearly better keeps its box and turn.
    """
    crops = [[_crops(image, box, turns) for turns in _turns(box)] for box in suspects]
    pictures = [
        picture
        for turned in crops
        for near, further in turned
        for picture in (near.image, Image(mirrored(further.image.pixels)))
    ]
    found = iter(see(pictures))
    faces = []
    for box, turned in zip(suspects, crops, strict=True):
        best, best_score, best_lead = box, threshold, 0.0
        for near, further in turned:
            seen = [
                *_same_face(near, next(found)),
                *_same_face(further, [mirrored_box(other, CROP_PX) for other in next(found)]),
            ]
            own = near.region.quarter_turns == box.quarter_turns
            first, second = [*(face.score for face in seen), threshold, threshold][:2]
            score = sqrt(first * second)
            lead = score + TURN_MARGIN * own
            if seen and lead > best_lead:
                best = box if own else max(seen, key=lambda face: face.score)
                best_score, best_lead = score, lead
        same_turn = best.quarter_turns == box.quarter_turns
        weight = SECOND_LOOK if same_turn else TURNED_SECOND_LOOK
        # Of a face at the border the detector may see more than the picture shows: a crop reaches
        # beyond it.
        inside = clipped(best, image.width_px, image.height_px)
        if inside is not None:
            faces.append(replace(inside, score=_both(box.score, best_score, weight)))
    return faces


def _both(first: float, second: float, weight: float) -> float:
    """The score of two looks: their geometric mean, with this weight of the second."""
    return float(first ** (1 - weight) * second**weight)


def _turns(box: FaceBox) -> tuple[int, ...]:
    """In which turns a find is looked at again."""
    longer_px = box.longer_px
    return (0, 1, 2, 3) if longer_px >= TURNED_FROM_PX else (box.quarter_turns,)


def _crops(image: Image, box: FaceBox, quarter_turns: int) -> tuple[FaceCrop, FaceCrop]:
    """The face from near and from further away."""
    near, further = (
        CropRegion(box.centre_xy, factor * box.longer_px, CROP_PX, quarter_turns)
        for factor in (NEAR, FURTHER)
    )
    return cut(image, box, near), cut(image, box, further)


def _same_face(crop: FaceCrop, found: Sequence[FaceBox]) -> list[FaceBox]:
    """The likeliest of the detections where the crop's face lies, in image pixels, if any."""
    same = [other for other in found if iou(crop.box, other) >= SAME_FACE_IOU]
    return [box_to_image(max(same, key=lambda face: face.score), crop.region)] if same else []
