"""The picture's walk: find the faces, mask them, repaint each in two passes, blend in, upscale."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline import masks
from pipeline.compositing import Repaint, cut, match_colour, paste_all
from pipeline.config import PassConfig, Profile
from pipeline.errors import Stopped
from pipeline.geometry import plan_crop, rounds
from pipeline.health import is_badly_damaged
from pipeline.images import resize_alpha
from pipeline.prompts import is_skip, split_prompt
from pipeline.stages import FaceDetector, FaceSegmenter, Inpainter, ShouldStop, Upscaler
from pipeline.types import (
    DetailRequest,
    DetailResult,
    FaceBox,
    FaceCrop,
    FaceOrder,
    HardMask,
    Image,
    InpaintJob,
)

OnProgress = Callable[[int, int], None]

_ORDERS: dict[FaceOrder, Callable[[FaceBox], float]] = {
    "size": lambda face: -face.width_px * face.height_px,
    "left-right": lambda face: face.centre_xy[0],
    "top-bottom": lambda face: face.centre_xy[1],
    "score": lambda face: -face.score,
}


@dataclass(frozen=True, slots=True)
class _Face:
    """A face that is to be repainted, and its own prompts."""

    box: FaceBox
    prompt: str
    negative_prompt: str
    needs_outline: bool


@dataclass(slots=True)
class _Run:
    """What one call keeps: its request, its clock, its progress."""

    request: DetailRequest
    on_progress: OnProgress
    should_stop: ShouldStop
    total_steps: int = 0
    done_steps: int = 0
    kept: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Stop here if nobody waits any more; else add the block's wall time to the stage's."""
        if self.should_stop():
            raise Stopped("the work was stopped")
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def step(self) -> None:
        """One more denoising step of one face is done."""
        with self.lock:
            self.done_steps += 1
            self.on_progress(min(self.done_steps, self.total_steps), self.total_steps)


class FaceDetailer:
    """One loaded profile; safe to call from several threads at a time."""

    def __init__(
        self,
        profile: Profile,
        *,
        detector: FaceDetector,
        segmenter: FaceSegmenter,
        inpainter: Inpainter,
        upscaler: Upscaler,
    ) -> None:
        self.profile = profile
        self._detector = detector
        self._segmenter = segmenter
        self._inpainter = inpainter
        self._upscaler = upscaler

    def __call__(
        self,
        request: DetailRequest,
        on_progress: OnProgress = lambda _done, _total: None,
        should_stop: ShouldStop = lambda: False,
    ) -> DetailResult:
        """Detail the faces of one picture.

        Args:
            request: the picture and what to do with it.
            on_progress: called with (steps done, steps in all), from any thread.
            should_stop: asked between stages and before every denoising step.

        Raises:
            Stopped: `should_stop` answered True.
        """
        run = _Run(request, on_progress, should_stop)
        with run.stage("detect"):
            faces = self.find_faces(request)
        return self._detail(run, faces)

    def find_faces(self, request: DetailRequest) -> list[FaceBox]:
        """The faces that the request's filters leave, in the request's order."""
        threshold = request.detection_threshold
        if threshold is None:
            threshold = self.profile.detector.threshold
        found = self._detector.detect(request.image, threshold)
        large = [
            face for face in found if min(face.width_px, face.height_px) >= request.min_face_px
        ]
        largest = sorted(large, key=_ORDERS["size"])[: request.max_faces]
        return sorted(largest, key=_ORDERS[request.face_order])

    def detail_faces(
        self,
        request: DetailRequest,
        faces: Sequence[FaceBox],
        on_progress: OnProgress = lambda _done, _total: None,
        should_stop: ShouldStop = lambda: False,
    ) -> DetailResult:
        """As a call, for faces that are already known; in pixels of `request.image`."""
        return self._detail(_Run(request, on_progress, should_stop), faces)

    def _detail(self, run: _Run, boxes: Sequence[FaceBox]) -> DetailResult:
        request = run.request
        faces = self._plan(request, boxes)
        passes = [request.passes != "detail" and face.needs_outline for face in faces]
        run.total_steps = request.num_inference_steps * request.samples * (len(faces) + sum(passes))
        pictures = [request.image] * request.samples
        for members in rounds([face.box for face in faces], self._reach()):
            now = [faces[index] for index in members]
            outlined = [face for index, face in zip(members, now, strict=True) if passes[index]]
            pictures = self._repaint(run, pictures, outlined, self.profile.outline)
            pictures = self._repaint(run, pictures, now, self.profile.detail)
        with run.stage("upscale"):
            images = self._upscale(pictures, request.upscale)
            alpha = request.alpha
            if alpha is not None and request.upscale > 1:
                alpha = resize_alpha(alpha, request.upscale)
        painted = tuple(face.box for face in faces)
        return DetailResult(images, alpha, painted, run.kept, run.seconds)

    def _plan(self, request: DetailRequest, boxes: Sequence[FaceBox]) -> list[_Face]:
        """The faces to repaint: none at denoise 0, and none whose prompt says so."""
        if request.denoise == 0:
            return []
        prompts = split_prompt(request.prompt, len(boxes))
        negatives = split_prompt(request.negative_prompt, len(boxes))
        return [
            _Face(
                box,
                prompt,
                negative,
                needs_outline=request.passes == "both" or is_badly_damaged(request.image, box),
            )
            for box, prompt, negative in zip(boxes, prompts, negatives, strict=True)
            if not is_skip(prompt)
        ]

    def _reach(self) -> float:
        """How far paint may reach beyond a face's box, as a share of its longer side.

        A mask may be twice as large as its box (`masks.clean`): √2 of its side, so 0.21 beyond it.
        """
        return 0.21 + max(self.profile.outline.grow, self.profile.detail.grow)

    def _repaint(
        self, run: _Run, pictures: list[Image], faces: Sequence[_Face], config: PassConfig
    ) -> list[Image]:
        """One pass over some faces of every sample's picture, as one batch."""
        strength = config.strength * run.request.denoise
        if not faces or strength == 0:
            return pictures
        with run.stage("cut"):
            # Samples that still share their picture share its crops and masks too.
            distinct = {id(picture): picture for picture in pictures}
            crops = {key: self._cut(picture, faces, config) for key, picture in distinct.items()}
        with run.stage("segment"):
            hard = {key: self._segment(found, config) for key, found in crops.items()}
        with run.stage("inpaint"):
            jobs = [
                _job(run.request, face, crop, mask, config, sample)
                for sample, picture in enumerate(pictures)
                for face, crop, mask in zip(
                    faces, crops[id(picture)], hard[id(picture)], strict=True
                )
            ]
            painted = self._inpainter.inpaint(jobs, run.step, run.should_stop)
        with run.stage("paste"):
            results = []
            for sample, picture in enumerate(pictures):
                mine = painted[sample * len(faces) : (sample + 1) * len(faces)]
                repaints = [
                    _blend(crop, mask, answer, config)
                    for crop, mask, answer in zip(
                        crops[id(picture)], hard[id(picture)], mine, strict=True
                    )
                    if answer is not None
                ]
                run.kept += len(mine) - len(repaints)
                results.append(paste_all(picture, repaints))
        return results

    def _cut(self, picture: Image, faces: Sequence[_Face], config: PassConfig) -> list[FaceCrop]:
        return [cut(picture, face.box, plan_crop(face.box, config)) for face in faces]

    def _segment(self, crops: Sequence[FaceCrop], config: PassConfig) -> list[HardMask]:
        """What may be repainted of each crop: the face, or an ellipse where the model is unsure."""
        found = self._segmenter.segment(crops)
        hard = []
        for crop, mask in zip(crops, found, strict=True):
            face = masks.clean(mask, crop.box) if mask is not None else None
            if face is None:
                face = masks.ellipse(crop.box, crop.region.work_px)
            hard.append(masks.grow(face, config.grow * _longer_side_px(crop.box)))
        return hard

    def _upscale(self, pictures: Sequence[Image], factor: int) -> tuple[Image, ...]:
        if factor == 1:
            return tuple(pictures)
        large: dict[int, Image] = {}
        for picture in pictures:
            if id(picture) not in large:
                large[id(picture)] = self._upscaler.upscale(picture, factor)
        return tuple(large[id(picture)] for picture in pictures)


def _longer_side_px(box: FaceBox) -> float:
    return max(box.width_px, box.height_px)


def _job(
    request: DetailRequest,
    face: _Face,
    crop: FaceCrop,
    mask: HardMask,
    config: PassConfig,
    sample: int,
) -> InpaintJob:
    """The denoise loop's order for one face of one sample."""
    return InpaintJob(
        image=crop.image,
        mask=masks.feather_inside(mask, config.feather * _longer_side_px(crop.box)),
        prompt=face.prompt,
        negative_prompt=face.negative_prompt,
        seed=(request.seed + sample) % 2**63,
        steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        strength=config.strength * request.denoise,
    )


def _blend(crop: FaceCrop, mask: HardMask, answer: Image, config: PassConfig) -> Repaint:
    """The model's answer with the picture's colours, and how much of it is kept where."""
    soft = masks.feather_inside(mask, config.feather * _longer_side_px(crop.box))
    return Repaint(crop, match_colour(answer, crop.image, soft), soft)
