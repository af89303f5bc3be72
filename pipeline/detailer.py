"""The picture's walk: find the faces, mask them, repaint each in two passes, blend in, upscale."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pipeline.config import Profile
from pipeline.detection import find_faces, judge
from pipeline.enlarging import enlarge
from pipeline.geometry import rounds
from pipeline.grain import give_grain_back, grainy_face, take_grain_away
from pipeline.health import is_badly_damaged, strength_share
from pipeline.identity import IdentityGate
from pipeline.overlay import draw
from pipeline.passes import Passes, cut_face
from pipeline.progress import OnProgress, ignore
from pipeline.report import Usage
from pipeline.request import DetailRequest, DetailResult, Selection, face_texts
from pipeline.run import DETAIL, GRAIN, OUTLINE, Face, OnPass, Run, noise_seed
from pipeline.stages import FaceDetector, FaceSegmenter, Inpainter, ShouldStop, Upscaler, never
from pipeline.transparency import enlarge_alpha, extend, restore
from pipeline.types import Detection, FaceBox, Image


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
        gate: IdentityGate | None = None,
    ) -> None:
        self.profile = profile
        self._detector = detector
        self._inpainter = inpainter
        self._upscaler = upscaler
        self._gate = gate
        self._passes = Passes(profile, segmenter, inpainter)

    def __call__(
        self,
        request: DetailRequest,
        on_progress: OnProgress = ignore,
        should_stop: ShouldStop = never,
    ) -> DetailResult:
        """Detail the faces of one picture.

        Args:
            request: the picture and what to do with it.
            on_progress: called at each stage, denoising step and enlarged tile, from any thread;
                must not wait.
            should_stop: asked between stages, steps, tiles, and other batches of work.

        Raises:
            ModelFailed: faces were to be repainted, and the model gave nothing usable for any.
            OutOfMemory: the device's memory does not hold even one face.
            Stopped: `should_stop` answered True.
        """
        run = Run(_visible(request), on_progress, should_stop)
        run.tell("detecting")
        with run.stage("detect"):
            detections = self.detect(run.request.image, request.selection, should_stop)
        faces = [detection.box for detection in detections if detection.rejected is None]
        result = self._detail(run, faces, request.image)
        return replace(result, rejected=tuple(detections[len(faces) :]))

    def usage(self) -> Usage:
        """What the models have done since they were loaded, and the memory they have."""
        return self._inpainter.usage()

    def find_faces(self, image: Image, selection: Selection) -> list[FaceBox]:
        """The faces that count, in the selection's order."""
        detections = self.detect(image, selection)
        return [detection.box for detection in detections if detection.rejected is None]

    def detect(
        self, image: Image, selection: Selection, should_stop: ShouldStop = never
    ) -> list[Detection]:
        """What the detector took for faces: those of `find_faces` first, then the rejected ones.

        Raises:
            Stopped: `should_stop` answered True.
        """
        config = self.profile.detector
        threshold = selection.detection_threshold
        if threshold is None:
            threshold = config.threshold
        faces = find_faces(image, self._detector, config.input_px, config.threshold, should_stop)
        return judge(faces, threshold, selection)

    def explain(self, image: Image, detections: Sequence[Detection]) -> Image:
        """The picture with what `detect` found, and the detail pass's crops and masks, drawn in.

        With `passes: both` the outline pass reaches somewhat further.
        """
        config = self.profile.detail
        boxes = [detection.box for detection in detections if detection.rejected is None]
        crops = [cut_face(image, box, config) for box in boxes]
        soft = self._passes.segment(crops, config, [()] * len(crops), never)
        return draw(image, detections, list(zip(crops, soft, strict=True)))

    def detail_faces(
        self,
        request: DetailRequest,
        faces: Sequence[FaceBox],
        on_progress: OnProgress = ignore,
        should_stop: ShouldStop = never,
        on_pass: OnPass = lambda _done: None,
    ) -> DetailResult:
        """As a call, for faces that are already known; in pixels of `request.image`.

        `on_pass` is called after each pass, from this thread; overlapping faces take several.
        """
        run = Run(_visible(request), on_progress, should_stop, on_pass)
        return self._detail(run, faces, request.image)

    def _detail(self, run: Run, boxes: Sequence[FaceBox], original: Image) -> DetailResult:
        request = run.request
        faces = self._plan(request, boxes)
        run.found = len(boxes)
        steps = {face.number: self._steps(request, face) for face in faces}
        planned_steps = request.recipe.samples * sum(steps.values())
        run.total_steps = planned_steps
        if request.recipe.upscale > 1:
            # Samples without a repaint share their picture.
            distinct = request.recipe.samples if planned_steps else 1
            run.total_px = distinct * self._upscaler.pixels(request.image, request.recipe.upscale)
        run.tell("found")
        pictures = [request.image] * request.recipe.samples
        for members in rounds([face.box for face in faces], self._reach()):
            now = [faces[index] for index in members]
            before, pictures = pictures, self._repaint(run, pictures, [now] * len(pictures))
            if self._gate is not None:
                again = partial(self._repaint_again, run)
                pictures = self._gate.judge(run, before, pictures, now, again)
            pictures = _with_grain(run, pictures, now)
        run.check_painted()
        if request.recipe.upscale > 1:
            run.tell("upscaling")
        with run.stage("upscale"):
            factor, alpha = request.recipe.upscale, request.alpha
            if factor == 1:
                images = tuple(restore(p, request.image, original, alpha) for p in pictures)
            else:
                images = enlarge(pictures, factor, self._upscaler, run.enlarged)
                alpha = None if alpha is None else enlarge_alpha(alpha, factor)
        walked = tuple(face.box for face in faces)
        failed = [face.number for _, face in run.asked - run.painted]
        taken_back = [judged.face for judged in run.identity if judged.outcome == "left"]
        return DetailResult(
            images,
            alpha,
            walked,
            unchanged=len(failed),
            stages=tuple(run.stages),
            unread=self._unread(faces),
            skipped=len(boxes) - len(faces),
            note=self.profile.note,
            steps=planned_steps - sum(steps[number] for number in failed + taken_back),
            identity=tuple(sorted(run.identity, key=lambda judged: (judged.sample, judged.face))),
        )

    def _repaint(
        self, run: Run, pictures: list[Image], faces: Sequence[Sequence[Face]]
    ) -> list[Image]:
        """Both passes over some faces of each sample's picture, none of which share any paint."""
        outlined = [[face for face in its_own if face.needs_outline] for its_own in faces]
        pictures = self._passes.repaint(run, pictures, outlined, self.profile.outline, OUTLINE)
        return self._passes.repaint(run, pictures, faces, self.profile.detail, DETAIL)

    def _repaint_again(
        self, run: Run, pictures: list[Image], faces: Sequence[Sequence[Face]]
    ) -> list[Image]:
        """The same beyond what was planned."""
        run.total_steps += sum(
            self._steps(run.request, face) for its_own in faces for face in its_own
        )
        return self._repaint(run, pictures, faces)

    def _steps(self, request: DetailRequest, face: Face) -> int:
        """How many denoising steps one face of one sample takes."""
        outline = face.needs_outline * self._passes.steps(request, face, self.profile.outline)
        return outline + self._passes.steps(request, face, self.profile.detail)

    def _unread(self, faces: Sequence[Face]) -> tuple[str, ...]:
        """What the model does not read of the faces' prompts, each text once, in their order."""
        prompts = [text for face in faces for text in (face.prompt, face.negative_prompt)]
        unread = (self._inpainter.unread(prompt) for prompt in dict.fromkeys(prompts))
        return tuple(dict.fromkeys(text for text in unread if text))

    def _plan(self, request: DetailRequest, boxes: Sequence[FaceBox]) -> list[Face]:
        """The faces to repaint: none at denoise 0, and none whose prompt says so."""
        recipe, image = request.recipe, request.image
        if recipe.denoise == 0:
            return []
        prompts = face_texts(recipe.prompt, len(boxes))
        negatives = face_texts(recipe.negative_prompt, len(boxes))
        spared = tuple(box for box, prompt in zip(boxes, prompts, strict=True) if prompt is None)
        return [
            Face(
                number,
                box,
                prompt,
                negative or "",
                needs_outline=recipe.passes == "both"
                or (recipe.passes == "auto" and is_badly_damaged(image, box)),
                strength=strength_share(image, box) if recipe.keep_healthy else 1.0,
                spared=spared,
            )
            for number, (box, prompt, negative) in enumerate(
                zip(boxes, prompts, negatives, strict=True), start=1
            )
            if prompt is not None
        ]

    def _reach(self) -> float:
        """How far paint may reach beyond a face's box, as a share of its longer side.

        A mask may be twice as large as its box (`masks.clean`): √2 of its side, so 0.21 beyond it.
        """
        return 0.21 + max(self.profile.outline.grow, self.profile.detail.grow)


def _visible(request: DetailRequest) -> DetailRequest:
    """The request for what can be seen: no face hidden under alpha 0 is found, and no hidden colour
    bleeds into a visible one.
    """
    return replace(request, image=extend(request.image, request.alpha))


def _with_grain(run: Run, pictures: Sequence[Image], faces: Sequence[Face]) -> list[Image]:
    """Every sample's picture, its own grain in the faces that were repainted last; or none in them,
    if the request says so.
    """
    recipe, after = run.request.recipe, list(pictures)
    if not faces:
        return after
    with run.stage("grain"):
        for sample, face in ((sample, face) for sample in range(len(after)) for face in faces):
            shares, longer_px = run.shares.get((sample, face), ()), face.box.longer_px
            grainy = grainy_face(after[sample], run.request.image, shares, longer_px)
            if grainy is None:
                continue
            if recipe.keep_grain:
                seed = noise_seed(recipe.seed + sample, GRAIN)
                after[sample] = give_grain_back(after[sample], grainy, seed)
            else:
                after[sample] = take_grain_away(after[sample], grainy)
    return after
