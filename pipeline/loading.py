"""The only assembly: a profile's folder and a device become a warmed-up `FaceDetailer`."""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.config import IdentityConfig, Profile
from pipeline.config_reading import read_profile
from pipeline.detailer import FaceDetailer
from pipeline.detection import find_faces
from pipeline.errors import ModelFailed, WeightsError
from pipeline.identity import IdentityGate
from pipeline.models.esrgan import EsrganUpscaler, load_upscaler
from pipeline.models.sam import SamSegmenter, load_segmenter
from pipeline.models.sdxl.compiling import CompileMode
from pipeline.models.sdxl.inpainter import SdxlInpainter, load_inpainter
from pipeline.models.sdxl.memory import MemoryMode
from pipeline.models.sface import load_sface
from pipeline.models.yolo import YoloDetector, load_detector
from pipeline.recognisers import find_recogniser
from pipeline.request import DetailRequest, Recipe
from pipeline.run import PassDone
from pipeline.stages import Inpainter, Recogniser
from pipeline.types import FaceBox, Image

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stages:
    """What plays the four roles."""

    detector: YoloDetector
    segmenter: SamSegmenter
    inpainter: Inpainter
    upscaler: EsrganUpscaler

    def assemble(self, profile: Profile, gate: IdentityGate | None = None) -> FaceDetailer:
        """The walk over them."""
        return FaceDetailer(
            profile,
            detector=self.detector,
            segmenter=self.segmenter,
            inpainter=self.inpainter,
            upscaler=self.upscaler,
            gate=gate,
        )


def load(
    path: Path,
    device: str,
    memory_mode: MemoryMode = "auto",
    compile_mode: CompileMode = "off",
    identity: Literal["off", "on"] | float = "off",
) -> FaceDetailer:
    """Read a profile, load its networks to `device` and run each of them once.

    Args:
        path: a profile's folder, or its file: see `pipeline.config_reading.read_profile`.
        device: as torch names it: "cpu", "cuda:0" …
        memory_mode: how the inpainter's networks share the device; "auto": by its free memory.
        compile_mode: which of them torch compiles, for minutes, before this returns.
        identity: whether repaints pass the identity gate; a number is its threshold, 0–1, instead
            of the profile's.

    Raises:
        InvalidProfile: the profile has no recogniser, and `identity` wants one.
        WeightsError: a file is missing or is not what the profile says, or a repaint by these
            weights is not finite.
    """
    started = time.monotonic()
    profile = read_profile(path)
    # First, as what is missing for it is told soon.
    gate = None if identity == "off" else load_gate(profile, identity)

    def inpainter() -> Inpainter:
        return load_inpainter(profile.folder, profile.inpainter, device, memory_mode, compile_mode)

    stages = load_stages(profile, device, inpainter)
    if isinstance(stages.inpainter, SdxlInpainter) and stages.inpainter.mode == "low":
        profile = profile.for_little_memory()
    detailer = stages.assemble(profile, gate)
    if isinstance(stages.inpainter, SdxlInpainter) and compile_mode != "off":
        logger.info("compiling %s for %s: this takes minutes", profile.name, device)
        stages.inpainter.compile_for(profile.outline.work_px + profile.detail.work_px)
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


def load_gate(profile: Profile, identity: Literal["on"] | float) -> IdentityGate:
    """The identity gate, with the recogniser that the profile names.

    Raises:
        InvalidProfile: it names none.
        WeightsError: a file or a package is missing, or a file is no such network.
    """
    config = find_recogniser(profile)
    threshold = config.threshold if identity == "on" else identity
    return IdentityGate(_load_recogniser(profile.folder, config), threshold)


def _load_recogniser(folder: Path, config: IdentityConfig) -> Recogniser:
    if config.recogniser == "sface":
        assert config.weights is not None  # noqa: S101 - for mypy: IdentityConfig has checked it
        assert config.landmarks is not None  # noqa: S101
        return load_sface(folder / config.weights, folder / config.landmarks)
    # A package that only this and `face-detailer eval` need.
    from pipeline.models.dlib_faces import DlibRecogniser

    return DlibRecogniser()


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

    Raises:
        WeightsError: the repaint is not finite.
    """
    image = Image(np.full((256, 256, 3), 128, np.uint8))
    request = DetailRequest(image, Recipe("", denoise=0.4, num_inference_steps=2, upscale=2))
    detailer.find_faces(image, request.selection)
    passes: list[PassDone] = []
    with contextlib.suppress(ModelFailed):
        detailer.detail_faces(request, [FaceBox(64, 64, 192, 192, 1.0)], on_pass=passes.append)
    # Whatever becomes of a grey picture, it is not blank: what lacks a repaint was not finite.
    if not all(all(done.repaints) for done in passes):
        raise WeightsError(
            f"the inpainter of {detailer.profile.name} gives values that are not finite: one of its"
            " networks is broken, or overflows in float16, where another `precision` or `vae` helps"
        )
