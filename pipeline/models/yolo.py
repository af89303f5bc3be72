"""Face detection by an ultralytics YOLO."""

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.config import DetectorConfig
from pipeline.errors import WeightsError
from pipeline.stages import ShouldStop, check, never
from pipeline.types import FaceBox, Image

# ultralytics reads these once, at its import: no network, no pip, no banner, and its settings file,
# which it insists on, in a folder that is gone right after.
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
with tempfile.TemporaryDirectory(prefix="face-detailer-") as config_dir:
    os.environ["YOLO_CONFIG_DIR"] = config_dir
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import SETTINGS, YAML

    SETTINGS.update(sync=False)

NMS_IOU = 0.5
PADDING_GREY = 114 / 255  # what ultralytics trains with
MIN_SIDE_PX = 1.0
# Of one batch: eight of the tiny profile's inputs.
BATCH_PIXELS = 8 * 640 * 640


class YoloDetector:
    """Finds faces; safe to call from several threads at a time.

    `model`: an ultralytics `DetectionModel` in eval mode on `device`; all its classes count as
    faces.
    """

    def __init__(self, model: DetectionModel, device: str) -> None:
        self._model = model
        self._device = torch.device(device)
        self._stride = int(model.stride.max())
        # The Detect layer keeps the anchors of the last picture's shape: two at a time would mix.
        self._lock = threading.Lock()

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """What works inside, by name."""
        return {"detector": self._model}

    @torch.inference_mode()
    def detect(
        self, images: Sequence[Image], threshold: float, should_stop: ShouldStop = never
    ) -> list[list[FaceBox]]:
        """Per picture, in order: all faces that score at least `threshold`, clipped to it, best
        score first.

        The pictures are looked at as they are, those of one size in batches. One face found by
        several anchors is merged by NMS. Between batches `should_stop` is asked.

        Raises:
            Stopped: it answered True.
        """
        found: list[list[FaceBox]] = [[] for _ in images]
        by_shape: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            by_shape.setdefault((image.height_px, image.width_px), []).append(index)
        for (height, width), indices in by_shape.items():
            most = max(1, BATCH_PIXELS // (height * width))
            for start in range(0, len(indices), most):
                check(should_stop)
                batch = indices[start : start + most]
                pixels = np.stack([images[index].pixels for index in batch])
                for index, rows in zip(batch, self._look(pixels), strict=True):
                    found[index] = _faces(rows, threshold, width, height)
        return found

    def _look(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """(N, H, W, 3) RGB → (N, 4 + classes, anchors): cx, cy, w, h in pixels, scores."""
        pictures = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float() / 255
        height, width = pictures.shape[-2:]
        padding = (0, -width % self._stride, 0, -height % self._stride)
        padded = F.pad(pictures, padding, value=PADDING_GREY)
        with self._lock:
            output: torch.Tensor = self._model(padded)[0].cpu()
        return output


def _faces(rows: torch.Tensor, threshold: float, width: int, height: int) -> list[FaceBox]:
    """One picture's part of the network's output as faces."""
    scores = rows[4:].amax(dim=0)
    chosen = scores >= threshold
    boxes = torchvision.ops.box_convert(rows[:4, chosen].T, "cxcywh", "xyxy")
    boxes = torch.minimum(boxes.clamp_min(0), torch.tensor([width, height] * 2))
    scores = scores[chosen]
    inside = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE_PX).all(dim=1)
    boxes, scores = boxes[inside], scores[inside]
    kept = torchvision.ops.nms(boxes, scores, NMS_IOU)
    found = torch.cat([boxes, scores[:, None]], dim=1)[kept].tolist()
    return [FaceBox(x0, y0, x1, y1, score) for x0, y0, x1, y1, score in found]


def load_detector(folder: Path, config: DetectorConfig, device: str) -> YoloDetector:
    """Build the network of `config.yaml`, fill it from `config.weights`, both below `folder`.

    Raises:
        WeightsError: a file is missing, cannot be read, or does not fit the network.
    """
    try:
        model = build_detector(folder / config.yaml)
        model.load_state_dict(load_file(folder / config.weights))
    except FileNotFoundError as error:
        raise WeightsError(f"detector file is missing: {error.filename or error}") from error
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        text = f"the detector's weights {config.weights} do not fit {config.yaml}: {error}"
        raise WeightsError(text) from error
    return make_detector(model, device)


def build_detector(yaml: Path) -> DetectionModel:
    """The network of these dimensions, untrained."""
    return DetectionModel(YAML.load(yaml), ch=3, verbose=False)


def make_detector(model: DetectionModel, device: str) -> YoloDetector:
    """A network whose weights are in it, ready on its device."""
    model = model.float().eval().requires_grad_(requires_grad=False)
    return YoloDetector(model.fuse(verbose=False).to(device), device)
