"""Face detection by an ultralytics YOLO."""

import os
import tempfile
import threading
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.config import DetectorConfig
from pipeline.errors import WeightsError
from pipeline.types import FaceBox, Image

# ultralytics reads these once, at its import: no network, no pip, no banner, and its settings file,
# which it insists on, in a folder that is gone right after.
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
with tempfile.TemporaryDirectory(prefix="face-detailer-") as config_dir:
    os.environ["YOLO_CONFIG_DIR"] = config_dir
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import SETTINGS, YAML

    SETTINGS.update(sync=False)

# Faces that fill the picture are too large for the anchors of the full pass; a second look at this
# size finds them.
REDUCED_PX = 320
# Magnified further, a small picture only shows the model its own blur.
MAX_MAGNIFICATION = 2
MERGE_IOU = 0.5
PADDING_GREY = 114 / 255  # what ultralytics trains with
MIN_SIDE_PX = 1.0


class YoloDetector:
    """Finds faces in pictures of any size; safe to call from several threads at a time.

    `model`: an ultralytics `DetectionModel` in eval mode on `device`; all its classes count as
    faces. `input_px`: the picture's longer side as the model sees it.
    """

    def __init__(self, model: DetectionModel, input_px: int, device: str) -> None:
        self._model = model
        self._sides_px = (input_px, min(input_px, REDUCED_PX))
        self._device = torch.device(device)
        self._stride = int(model.stride.max())
        # The Detect layer keeps the anchors of the last picture's shape: two at a time would mix.
        self._lock = threading.Lock()

    @torch.inference_mode()
    def detect(self, image: Image, threshold: float) -> list[FaceBox]:
        """All faces that score at least `threshold`, clipped to the picture, best score first.

        One face found by several passes or anchors is merged by NMS.
        """
        # A copy, because torch warns about read-only arrays.
        pixels = torch.from_numpy(image.pixels.copy()).permute(2, 0, 1)[None]
        largest_px = MAX_MAGNIFICATION * max(image.width_px, image.height_px)
        sides_px = sorted({min(side_px, largest_px) for side_px in self._sides_px})
        rows = torch.cat([self._look(pixels, side_px, threshold) for side_px in sides_px])
        limits = torch.tensor([image.width_px, image.height_px] * 2, dtype=torch.float32)
        boxes = torch.minimum(rows[:, :4].clamp_min(0), limits)
        inside = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE_PX).all(dim=1)
        boxes, scores = boxes[inside], rows[inside, 4]
        kept = torchvision.ops.nms(boxes, scores, MERGE_IOU)
        found = torch.cat([boxes, scores[:, None]], dim=1)[kept].tolist()
        return [FaceBox(x0, y0, x1, y1, score) for x0, y0, x1, y1, score in found]

    def _look(self, pixels: torch.Tensor, side_px: int, threshold: float) -> torch.Tensor:
        """One pass, the longer side at `side_px`: (N, 5) x0, y0, x1, y1 in the picture, score."""
        height, width = pixels.shape[-2:]
        scale = side_px / max(height, width)
        small_hw = max(1, round(height * scale)), max(1, round(width * scale))
        small = F.interpolate(pixels, small_hw, mode="bilinear", antialias=True)
        right, bottom = -small_hw[1] % self._stride, -small_hw[0] % self._stride
        picture = small.to(self._device).float() / 255
        picture = F.pad(picture, (0, right, 0, bottom), value=PADDING_GREY)
        with self._lock:
            output = self._model(picture)[0][
                0
            ].cpu()  # (4 + classes, anchors): cx, cy, w, h, scores
        scores = output[4:].amax(dim=0)
        chosen = scores >= threshold
        boxes = torchvision.ops.box_convert(output[:4, chosen].T, "cxcywh", "xyxy")
        back = torch.tensor([width / small_hw[1], height / small_hw[0]] * 2)
        return torch.cat([boxes * back, scores[chosen, None]], dim=1)


def load_detector(folder: Path, config: DetectorConfig, device: str) -> YoloDetector:
    """Build the network of `config.yaml`, fill it from `config.weights`, both below `folder`.

    Raises:
        WeightsError: a file is missing, cannot be read, or does not fit the network.
    """
    try:
        model = DetectionModel(YAML.load(folder / config.yaml), ch=3, verbose=False)
        model.load_state_dict(load_file(folder / config.weights))
    except FileNotFoundError as error:
        raise WeightsError(f"detector file is missing: {error.filename or error}") from error
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        text = f"the detector's weights {config.weights} do not fit {config.yaml}: {error}"
        raise WeightsError(text) from error
    model = model.float().eval().requires_grad_(requires_grad=False)
    return YoloDetector(model.fuse(verbose=False).to(device), config.input_px, device)
