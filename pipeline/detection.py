"""Finding faces of any size and turn: what the detector looks at, and which finds count."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import geometric_mean

import cv2

from pipeline.compositing import cut
from pipeline.geometry import box_to_image, common_share, iou, mirrored_box
from pipeline.request import DetailRequest, FaceOrder
from pipeline.resampling import mirrored
from pipeline.stages import FaceDetector
from pipeline.types import CropRegion, FaceBox, FaceCrop, Find, Image
from pipeline.views import View, coarse, tiles, wholes

MERGE_IOU = 0.5
# Of two boxes the smaller one's share that lies in the other, from which on they are one face: a
# part of it, or it and its hair.
PART_SHARE = 0.5
MOST_FINDS = 300

# Seen upright, a turned face scores little. Finds from this share of the threshold on, the best
# `MOST_SUSPECTS` of them, are looked at again in all turns, each of them twice: from near and, in a
# mirror, from further away, so many times the face's size in crops of `CROP_PX` a side. What only
# resembles a face seldom does so both times: at 0.5 a detector found something in 6 of 131
# photographs without people looking from near alone, in 2 looking twice, and no fewer faces in 52
# with people.
SUSPICION = 0.1
MOST_SUSPECTS = 64
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

_ORDERS: dict[FaceOrder, Callable[[FaceBox], float]] = {
    "size": lambda face: -face.width_px * face.height_px,
    "left-right": lambda face: face.centre_xy[0],
    "top-bottom": lambda face: face.centre_xy[1],
    "score": lambda face: -face.score,
}


def find_faces(
    image: Image, detector: FaceDetector, input_px: int, threshold: float
) -> list[FaceBox]:
    """What looks like a face, each with its turn, best score first: the faces, which score at least
    `threshold`, and what comes near it.

    The upright picture decides: what looks like a face there, if only vaguely, is looked at once
    more, in all turns. Only where no sure face comes of that, the whole picture is turned.

    Args:
        image: the picture, of any size.
        detector: what finds faces in pictures that fit it.
        input_px: the longer side of pictures that fit it.
        threshold: 0–1.
    """
    whole = list(wholes(image, input_px))
    suspicion = SUSPICION * threshold
    fine = [*whole, *tiles(image, input_px)]
    finds = _look(fine, detector, suspicion, soft=[coarse(image, input_px)])
    faces = _look_again(image, finds, detector, suspicion)
    if not any(face.score >= max(SURE, threshold) for face in faces):
        others = [view.turned(turns) for view in whole for turns in (1, 2, 3)]
        finds = _look(others, detector, suspicion)
        faces = _merge([*faces, *_look_again(image, finds, detector, suspicion)])
    return faces


def judge(faces: Sequence[FaceBox], threshold: float, request: DetailRequest) -> list[Find]:
    """Which of the faces count, first, in the request's order; then the others, the best first."""
    left_out: list[Find] = []
    counting: list[FaceBox] = []
    for face in faces:
        if face.score < threshold:
            left_out.append(Find(face, "score"))
        elif min(face.width_px, face.height_px) < request.min_face_px:
            left_out.append(Find(face, "size"))
        else:
            counting.append(face)
    counting.sort(key=_ORDERS["size"])
    left_out += [Find(face, "count") for face in counting[request.max_faces :]]
    chosen = sorted(counting[: request.max_faces], key=_ORDERS[request.face_order])
    left_out.sort(key=lambda find: -find.box.score)
    return [*(Find(face) for face in chosen), *left_out]


def _look(
    views: Sequence[View], detector: FaceDetector, threshold: float, soft: Sequence[View] = ()
) -> list[FaceBox]:
    """What the detector finds in all views together, in image pixels, best score first. `soft`:
    coarse ones.
    """
    found = iter(detector.detect([view.picture for view in (*views, *soft)], threshold))
    fine, blurred = (
        _merge([back for view in part for box in next(found) if (back := view.to_image(box))])
        for part in (views, soft)
    )
    return _add_soft(fine, blurred) if blurred else fine


def _add_soft(finds: list[FaceBox], soft: list[FaceBox]) -> list[FaceBox]:
    """The finds and those of a coarse view, where a soft face is sharp. Of a face that both see the
    finds' box is kept, if it scores at least half as much, with the higher score.
    """
    together = list(finds)
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
    return [
        box
        for number, box in enumerate(merged)
        if not any(common_share(box, better) >= PART_SHARE for better in merged[:number])
    ]


def _look_again(
    image: Image, finds: Sequence[FaceBox], detector: FaceDetector, threshold: float
) -> list[FaceBox]:
    """The finds, each with the turn that shows it best; best score first.

    The score becomes the weighted geometric mean of both looks; one that sees nothing counts as
    `threshold`. A find that no other turn shows clearly better keeps its box and turn.
    """
    suspects = finds[:MOST_SUSPECTS]
    crops = [[_crops(image, box, turns) for turns in _turns(box)] for box in suspects]
    pictures = [
        picture
        for turned in crops
        for near, further in turned
        for picture in (near.image, Image(mirrored(further.image.pixels)))
    ]
    found = iter(detector.detect(pictures, threshold))
    faces = []
    for box, turned in zip(suspects, crops, strict=True):
        best, best_score, best_lead = box, threshold, 0.0
        for near, further in turned:
            seen = [
                *_same_face(near, next(found)),
                *_same_face(further, [mirrored_box(other, CROP_PX) for other in next(found)]),
            ]
            own = near.region.quarter_turns == box.quarter_turns
            score = geometric_mean([face.score for face in seen] + [threshold] * (2 - len(seen)))
            lead = score + TURN_MARGIN * own
            if seen and lead > best_lead:
                best = box if own else max(seen, key=lambda face: face.score)
                best_score, best_lead = score, lead
        same_turn = best.quarter_turns == box.quarter_turns
        weight = SECOND_LOOK if same_turn else TURNED_SECOND_LOOK
        score = box.score ** (1 - weight) * best_score**weight
        faces.append(replace(best, score=score))
    return _merge(faces)


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
    """The likeliest of the finds that lie where the crop's face does, in image pixels, if any."""
    same = [other for other in found if iou(crop.box, other) >= SAME_FACE_IOU]
    return [box_to_image(max(same, key=lambda face: face.score), crop.region)] if same else []
