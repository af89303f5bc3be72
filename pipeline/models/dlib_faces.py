"""Whose face it is, as dlib's embedding sees it: distances of 0.6 and more are other people's.

dlib's network (King, dlib_face_recognition_resnet_model_v1, 99.38 % on Labeled Faces in the Wild)
and its five landmarks come with the package `face-recognition-models`.
"""

import threading
from typing import Any

import dlib
import numpy as np
from numpy.typing import NDArray

from pipeline.types import FaceBox, FaceCrop, Image
from weights.dlib_models import LandmarkFinder, embedding_file

Embedding = NDArray[np.float64]


class Embedder:
    """Loads both networks; 0.1 to 0.3 s a face on a CPU."""

    def __init__(self) -> None:
        self._finder = LandmarkFinder()
        self._network = dlib.face_recognition_model_v1(str(embedding_file()))

    def landmarks(self, image: Image, face: FaceBox) -> Any:
        """Eyes and nose of an upright face, as dlib's `full_object_detection`."""
        return self._finder.find(image.pixels, (face.x0, face.y0, face.x1, face.y1))

    def embed(self, image: Image, landmarks: Any) -> Embedding:
        """(128,) of the face that has its eyes and nose there."""
        return np.array(self._network.compute_face_descriptor(image.pixels, landmarks))


class DlibRecogniser:
    """Fits `pipeline.stages.Recogniser`; callers from several threads take turns."""

    def __init__(self) -> None:
        self._embedder = Embedder()
        # A network of dlib keeps what it computes between its layers.
        self._lock = threading.Lock()

    def likeness(self, before: FaceCrop, after: FaceCrop) -> float:
        """The cosine of both embeddings, with the landmarks of the face before: with each one's own
        it is lower by 0.02 where next to nothing was repainted.
        """
        with self._lock:
            landmarks = self._embedder.landmarks(before.image, before.box)
            one, other = (self._embedder.embed(crop.image, landmarks) for crop in (before, after))
        return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
