"""Whose face it is, as OpenCV's SFace sees it, with the landmarks that YuNet finds.

SFace: Zhong et al., "SFace: Sigmoid-constrained hypersphere loss for robust face recognition",
2021; Apache-2.0. YuNet: Wu, Peng and Yu, "YuNet: a tiny millisecond-level face detector", 2023;
MIT. Both are files of OpenCV's zoo.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WeightsError
from pipeline.types import FaceCrop

# As in OpenCV's own example.
_LEAST_SCORE = 0.6
_NMS_IOU = 0.3
_MOST_FOUND = 50
# The crop's side: YuNet's strides are 8, 16 and 32.
_SIDE_PX = 320
_ALIGNED_PX = 112


class SfaceRecogniser:
    """Fits `pipeline.stages.Recogniser`; callers from several threads take turns. Runs on the CPU,
    whatever the device.
    """

    def __init__(self, detector: Any, network: Any) -> None:
        """`detector`, `network`: OpenCV's `FaceDetectorYN` and `FaceRecognizerSF`."""
        self._detector = detector
        self._network = network
        # Both keep a call's tensors.
        self._lock = threading.Lock()

    def likeness(self, before: FaceCrop, after: FaceCrop) -> float | None:
        """The cosine of both embeddings, with the landmarks of the face before, or after where
        YuNet sees it there alone; None where it sees it in neither.
        """
        pictures = [_bgr(crop) for crop in (before, after)]
        with self._lock:
            for bgr in pictures:
                face = self._find(bgr, before)
                if face is not None:
                    break
            else:
                return None
            one, other = (self._embed(bgr, face) for bgr in pictures)
        return float(np.sum(one * other) / (np.linalg.norm(one) * np.linalg.norm(other)))

    def _find(self, bgr: NDArray[np.uint8], crop: FaceCrop) -> NDArray[np.float32] | None:
        """(15,): box, landmarks and score of the face in the crop's box, as OpenCV keeps them."""
        self._detector.setInputSize(bgr.shape[1::-1])
        _, faces = self._detector.detect(bgr)
        x, y = crop.box.centre_xy
        inside = [
            face
            for face in ([] if faces is None else faces)
            if abs(face[0] + face[2] / 2 - x) < face[2] / 2
            and abs(face[1] + face[3] / 2 - y) < face[3] / 2
        ]
        return max(inside, key=lambda face: float(face[-1]), default=None)

    def _embed(self, bgr: NDArray[np.uint8], face: NDArray[np.float32]) -> NDArray[np.float32]:
        embedding: NDArray[np.float32] = self._network.feature(self._network.alignCrop(bgr, face))
        return embedding


def _bgr(crop: FaceCrop) -> NDArray[np.uint8]:
    return np.ascontiguousarray(crop.image.pixels[..., ::-1])


def load_sface(weights: Path, landmarks: Path) -> SfaceRecogniser:
    """Load both networks and run each of them once.

    Args:
        weights: SFace's ONNX file.
        landmarks: YuNet's.

    Raises:
        WeightsError: a file cannot be read, or is no such network.
    """
    side_wh = (_SIDE_PX, _SIDE_PX)
    detector = _load(
        landmarks,
        lambda file: cv2.FaceDetectorYN.create(
            file, "", side_wh, _LEAST_SCORE, _NMS_IOU, _MOST_FOUND
        ),
        lambda made: made.detect(np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8)),
    )
    network = _load(
        weights,
        lambda file: cv2.FaceRecognizerSF.create(file, ""),
        lambda made: made.feature(np.zeros((_ALIGNED_PX, _ALIGNED_PX, 3), np.uint8)),
    )
    return SfaceRecogniser(detector, network)


def _load(file: Path, make: Callable[[str], Any], run: Callable[[Any], object]) -> Any:
    try:
        made = make(str(file))
        run(made)
    except cv2.error as error:
        # OpenCV's own text is a line of its source.
        raise WeightsError(f"recogniser weights cannot be read: {file.name}") from error
    return made
