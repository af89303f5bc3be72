"""How well the segmenter's masks fit labelled outlines of faces."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.matching import match
from evaluation.outlines import Points, fill_oval
from evaluation.portraits import Finder, read_image
from pipeline import masks
from pipeline.compositing import cut
from pipeline.config import PassConfig
from pipeline.geometry import crop_matrix, plan_crop
from pipeline.stages import FaceSegmenter, never
from pipeline.types import CropRegion, FaceBox, HardMask, Image


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """One labelled face. `face`: its detection; None where it was missed, as is what follows.

    `mask`: (H, W) of the picture, before it is grown. `iou`: of the mask with the label, 0–1;
    `ellipse_iou`: of the pipeline's ellipse. `fell_back`: the mask is that ellipse.
    """

    name: str
    image: Image
    oval: Points
    face: FaceBox | None
    mask: NDArray[np.bool_] | None = None
    iou: float | None = None
    ellipse_iou: float | None = None
    fell_back: bool = False


def mask_faces(
    files: Iterable[Path],
    ovals: Mapping[str, Sequence[Points]],
    find: Finder,
    segmenter: FaceSegmenter,
    config: PassConfig,
) -> Iterator[Masked]:
    """Every labelled face: found, cut for one pass, and masked as the pipeline does it."""
    for file in files:
        labelled = ovals.get(file.name, [])
        if not labelled:
            continue
        image = read_image(file)
        for oval, face in zip(
            labelled, match(list(map(_around, labelled)), find(image)), strict=True
        ):
            if face is None:
                yield Masked(file.name, image, oval, None)
            else:
                yield _masked(file.name, image, oval, face, segmenter, config)


def _masked(
    name: str,
    image: Image,
    oval: Points,
    face: FaceBox,
    segmenter: FaceSegmenter,
    config: PassConfig,
) -> Masked:
    crop = cut(image, face, plan_crop(face, config, face.quarter_turns))
    (found,) = segmenter.segment([crop], never)
    side_px = crop.region.work_px
    face_mask, segmented = masks.of_face(found, crop.box, side_px)
    ellipse = masks.ellipse(crop.box, side_px)
    mask, plain = (_in_picture(m, crop.region, image) for m in (face_mask, ellipse))
    wanted = fill_oval(oval, image.height_px, image.width_px) > 0
    ious = _iou(mask, wanted), _iou(plain, wanted)
    return Masked(name, image, oval, face, mask, *ious, fell_back=not segmented)


def _around(oval: Points) -> FaceBox:
    (x0, y0), (x1, y1) = oval.min(axis=0), oval.max(axis=0)
    return FaceBox(float(x0), float(y0), float(x1), float(y1), score=1.0)


def _in_picture(mask: HardMask, region: CropRegion, image: Image) -> NDArray[np.bool_]:
    """A crop's mask in the picture's frame."""
    matrix = crop_matrix(region)
    # OpenCV's coordinates are those of the pixels' centres.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    share = cv2.warpAffine(
        mask.pixels.astype(np.float32),
        matrix,
        (image.width_px, image.height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return np.asarray(share > 0.5)


def _iou(mask: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    return float((mask & wanted).sum() / max(1, (mask | wanted).sum()))
