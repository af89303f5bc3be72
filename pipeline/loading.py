"""The only assembly: a profile's folder and a device become a warmed-up `FaceDetailer`."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Read when the libraries behind the adapters are imported: nothing is fetched or reported while
# serving, and no bar is drawn for weights that load in a second.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
)

import numpy as np

from pipeline.config import Profile, read_profile
from pipeline.detailer import FaceDetailer
from pipeline.detection import find_faces
from pipeline.models.esrgan import EsrganUpscaler, load_upscaler
from pipeline.models.memory import MemoryMode
from pipeline.models.sam import SamSegmenter, load_segmenter
from pipeline.models.sdxl import load_inpainter
from pipeline.models.yolo import YoloDetector, load_detector
from pipeline.request import DetailRequest
from pipeline.stages import Inpainter
from pipeline.types import FaceBox, Image

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stages:
    """What plays the four roles."""

    detector: YoloDetector
    segmenter: SamSegmenter
    inpainter: Inpainter
    upscaler: EsrganUpscaler

    def assemble(self, profile: Profile) -> FaceDetailer:
        """The walk over them."""
        return FaceDetailer(
            profile,
            detector=self.detector,
            segmenter=self.segmenter,
            inpainter=self.inpainter,
            upscaler=self.upscaler,
        )


def load(path: Path, device: str, memory_mode: MemoryMode = "auto") -> FaceDetailer:
    """Read a profile, load its networks to `device` and run each of them once.

    Args:
        path: a profile's folder, or its file: see `pipeline.config.read_profile`.
        device: as torch names it: "cpu", "cuda:0" …
        memory_mode: how the inpainter's networks share the device; "auto": by its free memory.

    Raises:
        WeightsError: a file is missing or is not what the profile says.
    """
    started = time.monotonic()
    profile = read_profile(path)

    def inpainter() -> Inpainter:
        return load_inpainter(profile.folder, profile.inpainter, device, memory_mode)

    detailer = load_stages(profile, device, inpainter).assemble(profile)
    warm_up(detailer)
    seconds = time.monotonic() - started
    logger.info("profile %s is ready on %s after %.1f s", profile.name, device, seconds)
    return detailer


def load_stages(profile: Profile, device: str, inpainter: Callable[[], Inpainter]) -> Stages:
    """The profile's networks in their adapters. `inpainter` loads its own, after the small ones:
    what is missing is told soon.

    Raises:
        WeightsError: a file is missing or is not what the profile says.
    """
    folder = profile.folder
    return Stages(
        detector=load_detector(folder, profile.detector, device),
        segmenter=load_segmenter(folder, profile.segmenter, device),
        inpainter=inpainter(),
        upscaler=load_upscaler(folder, profile.upscaler, device),
    )


def load_finder(path: Path, device: str) -> Callable[[Image], list[FaceBox]]:
    """The detection stage alone, as `FaceDetailer` runs it with the profile's threshold.

    Raises:
        WeightsError: a file is missing or is not what the profile says.
    """
    profile = read_profile(path)
    config = profile.detector
    detector = load_detector(profile.folder, config, device)

    def find(image: Image) -> list[FaceBox]:
        """The faces that score enough, best first."""
        faces = find_faces(image, detector, config.input_px, config.threshold)
        return [face for face in faces if face.score >= config.threshold]

    return find


def warm_up(detailer: FaceDetailer) -> None:
    """Walk a grey picture with a made-up face through every stage: the first request waits for no
    allocation, compilation or choice of kernels.
    """
    image = Image(np.full((256, 256, 3), 128, np.uint8))
    request = DetailRequest(image, prompt="", denoise=0.4, num_inference_steps=2, upscale=2)
    detailer.find_faces(request)
    detailer.detail_faces(
        request, [FaceBox(64, 64, 192, 192, 1.0)], lambda _done, _total: None, lambda: False
    )
