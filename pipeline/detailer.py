"""The picture's walk: find the faces, mask them, repaint each in two passes, blend in, upscale."""

from collections.abc import Sequence

from pipeline import masks
from pipeline.colours import keep_grey, keep_tone, match_colour
from pipeline.compositing import cut, paste_all
from pipeline.config import PassConfig, Profile
from pipeline.detection import find_faces, judge
from pipeline.geometry import plan_crop, rounds
from pipeline.health import is_badly_damaged, strength_share
from pipeline.images import resize_alpha
from pipeline.overlay import draw
from pipeline.prompts import is_skip, split_prompt
from pipeline.repaint_checks import is_blank
from pipeline.request import DetailRequest, DetailResult
from pipeline.run import Face, OnPass, OnProgress, Order, PassDone, Run
from pipeline.stages import FaceDetector, FaceSegmenter, Inpainter, ShouldStop, Upscaler
from pipeline.steps import plan_steps
from pipeline.types import FaceBox, FaceCrop, Find, Image, Repaint, SoftMask


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
        run = Run(request, on_progress, should_stop)
        with run.stage("detect"):
            faces = self.find_faces(request)
        return self._detail(run, faces)

    def find_faces(self, request: DetailRequest) -> list[FaceBox]:
        """The faces that the request's filters leave, in the request's order."""
        return [find.box for find in self.inspect(request) if find.left_out is None]

    def inspect(self, request: DetailRequest) -> list[Find]:
        """What the detector took for faces: those of `find_faces` first, then what was left out."""
        config = self.profile.detector
        threshold = request.detection_threshold
        if threshold is None:
            threshold = config.threshold
        faces = find_faces(request.image, self._detector, config.input_px, threshold)
        return judge(faces, threshold, request)

    def explain(self, request: DetailRequest, finds: Sequence[Find]) -> Image:
        """The picture with the finds of `inspect` drawn in, and the detail pass's crops and masks.

        With `passes: both` the outline pass reaches somewhat further.
        """
        config = self.profile.detail
        boxes = [find.box for find in finds if find.left_out is None]
        crops = [_cut(request.image, box, config) for box in boxes]
        return draw(
            request.image, finds, list(zip(crops, self._segment(crops, config), strict=True))
        )

    def detail_faces(
        self,
        request: DetailRequest,
        faces: Sequence[FaceBox],
        on_progress: OnProgress = lambda _done, _total: None,
        should_stop: ShouldStop = lambda: False,
        on_pass: OnPass = lambda _done: None,
    ) -> DetailResult:
        """As a call, for faces that are already known; in pixels of `request.image`.

        `on_pass` is called after each pass, from this thread; overlapping faces take several.
        """
        return self._detail(Run(request, on_progress, should_stop, on_pass), faces)

    def _detail(self, run: Run, boxes: Sequence[FaceBox]) -> DetailResult:
        request = run.request
        faces = self._plan(request, boxes)
        run.total_steps = request.samples * sum(
            self._steps(request, face, self.profile.detail)
            + face.needs_outline * self._steps(request, face, self.profile.outline)
            for face in faces
        )
        pictures = [request.image] * request.samples
        for members in rounds([face.box for face in faces], self._reach()):
            now = [faces[index] for index in members]
            outlined = [face for face in now if face.needs_outline]
            pictures = self._repaint(run, pictures, outlined, self.profile.outline)
            pictures = self._repaint(run, pictures, now, self.profile.detail)
        with run.stage("upscale"):
            images = self._upscale(pictures, request.upscale)
            alpha = request.alpha
            if alpha is not None and request.upscale > 1:
                alpha = resize_alpha(alpha, request.upscale)
        walked = tuple(face.box for face in faces)
        return DetailResult(images, alpha, walked, len(run.asked - run.painted), run.seconds)

    def _plan(self, request: DetailRequest, boxes: Sequence[FaceBox]) -> list[Face]:
        """The faces to repaint: none at denoise 0, and none whose prompt says so."""
        if request.denoise == 0:
            return []
        prompts = split_prompt(request.prompt, len(boxes))
        negatives = split_prompt(request.negative_prompt, len(boxes))
        return [
            Face(
                box,
                prompt,
                negative,
                needs_outline=request.passes == "both"
                or (request.passes == "auto" and is_badly_damaged(request.image, box)),
                strength=strength_share(request.image, box) if request.keep_healthy else 1.0,
            )
            for box, prompt, negative in zip(boxes, prompts, negatives, strict=True)
            if not is_skip(prompt)
        ]

    def _steps(self, request: DetailRequest, face: Face, config: PassConfig) -> int:
        """How many steps one face of one sample takes in a pass."""
        strength = _strength(request, face, config)
        if strength == 0:
            return 0
        rule = self.profile.inpainter.step_rule
        return plan_steps(self._asked_steps(request), strength, rule)[1]

    def _asked_steps(self, request: DetailRequest) -> int:
        """The request's steps, or the share of them that the profile's model needs; at least 1."""
        return max(1, round(request.num_inference_steps * self.profile.inpainter.steps))

    def _reach(self) -> float:
        """How far paint may reach beyond a face's box, as a share of its longer side.

        A mask may be twice as large as its box (`masks.clean`): √2 of its side, so 0.21 beyond it.
        """
        return 0.21 + max(self.profile.outline.grow, self.profile.detail.grow)

    def _repaint(
        self, run: Run, pictures: list[Image], faces: Sequence[Face], config: PassConfig
    ) -> list[Image]:
        """One pass over some faces of every sample's picture, as one batch."""
        if not faces or config.strength == 0:
            return pictures
        with run.stage("cut"):
            # Samples that still share their picture share its crops and masks too.
            distinct = {id(picture): picture for picture in pictures}
            crops = {
                key: [_cut(picture, face.box, config) for face in faces]
                for key, picture in distinct.items()
            }
        with run.stage("segment"):
            soft = {key: self._segment(found, config) for key, found in crops.items()}
            orders = [
                Order(sample, face, crop, mask)
                for sample, picture in enumerate(pictures)
                for face, crop, mask in zip(
                    faces, crops[id(picture)], soft[id(picture)], strict=True
                )
            ]
        with run.stage("inpaint"):
            steps = self._asked_steps(run.request)
            jobs = [
                order.job(run.request, _strength(run.request, order.face, config), steps)
                for order in orders
            ]
            answers = self._inpainter.inpaint(jobs, run.step, run.should_stop)
        with run.stage("paste"):
            repaints: list[list[Repaint]] = [[] for _ in pictures]
            for order, answer in zip(orders, answers, strict=True):
                run.asked.add((order.sample, order.face))
                if answer is not None and not is_blank(answer, order.crop.image, order.mask):
                    run.painted.add((order.sample, order.face))
                    painted = _match(answer, order, config)
                    repaints[order.sample].append(Repaint(order.crop, painted, order.mask))
            after = [paste_all(*pair) for pair in zip(pictures, repaints, strict=True)]
        run.on_pass(PassDone(config, tuple(map(tuple, repaints)), tuple(after)))
        return after

    def _segment(self, crops: Sequence[FaceCrop], config: PassConfig) -> list[SoftMask]:
        """How much of each crop is repainted: the face, or an ellipse where the model is unsure."""
        found = self._segmenter.segment(crops)
        soft = []
        for crop, mask in zip(crops, found, strict=True):
            face, _ = masks.of_face(mask, crop.box, crop.region.work_px)
            longer_px = crop.box.longer_px
            hard = masks.grow(face, config.grow * longer_px)
            soft.append(masks.feather_inside(hard, config.feather * longer_px))
        return soft

    def _upscale(self, pictures: Sequence[Image], factor: int) -> tuple[Image, ...]:
        if factor == 1:
            return tuple(pictures)
        large: dict[int, Image] = {}
        for picture in pictures:
            if id(picture) not in large:
                large[id(picture)] = self._upscaler.upscale(picture, factor)
        return tuple(large[id(picture)] for picture in pictures)


def _match(answer: Image, order: Order, config: PassConfig) -> Image:
    """The model's answer in the picture's colours, as the profile wants them matched."""
    crop = order.crop
    if config.tone == 0:
        matched = match_colour(answer, crop.image, order.mask)
    else:
        matched = keep_tone(answer, crop.image, config.tone * crop.box.longer_px)
    return keep_grey(matched, crop.image)


def _strength(request: DetailRequest, face: Face, config: PassConfig) -> float:
    """How far up the noise a face starts in a pass."""
    return config.strength * face.strength * request.denoise


def _cut(picture: Image, box: FaceBox, config: PassConfig) -> FaceCrop:
    """The face as one pass sees it, upright."""
    return cut(picture, box, plan_crop(box, config, box.quarter_turns))
