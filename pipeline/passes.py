"""One pass over some faces: cut, segment, repaint, match the colours, paste."""

from collections.abc import Sequence

from pipeline import masks
from pipeline.colours import keep_tone, match_colour
from pipeline.compositing import cut, lay_in, share_of
from pipeline.config import PassConfig, Profile
from pipeline.geometry import box_to_crop, plan_crop
from pipeline.health import SOFT_BELOW, is_blank, sharpness
from pipeline.monochrome import keep_monochrome
from pipeline.request import DetailRequest
from pipeline.run import Face, Order, PassDone, Run
from pipeline.stages import FaceSegmenter, Inpainter, ShouldStop
from pipeline.steps import plan_steps
from pipeline.thin import laid_back, lifted_off
from pipeline.types import FaceBox, FaceCrop, Image, Repaint, Share, SoftMask

# Of a crop's side: what is under half as wide is lifted off, as strokes of text are, 4 of 256 px.
# On 26 portraits with nothing over them, PSNR gains as much as without it at light, medium and
# heavy damage. Six that were shrunk by 8 gain 0.27 dB bare, 0.25 dB instead of 0.00 under a line,
# and 0.11 dB instead of 0.02 under a word as wide as they are: its strokes are wider in part.
_THIN_SHARE = 9 / 256
_THIN_LEVELS = 28.0
# Of a crop's side: what is shorter is of the face, as the corners of its mouth and the light in its
# eyes are. If they were lifted too, the example at light damage would gain 0.60 dB, not 0.77.
_LONG_SHARE = 32 / 256


class Passes:
    """The passes of one loaded profile; safe to call from several threads at a time."""

    def __init__(self, profile: Profile, segmenter: FaceSegmenter, inpainter: Inpainter) -> None:
        self._step_rule = profile.inpainter.step_rule
        self._share_of_steps = profile.inpainter.steps
        # To a small model one sharp line says that the face is well, however soft it is.
        self._lifts_off = profile.inpainter.residual
        self._segmenter = segmenter
        self._inpainter = inpainter

    def steps(self, request: DetailRequest, face: Face, config: PassConfig) -> int:
        """How many steps one face of one sample takes in a pass."""
        strength = _strength(request, face, config)
        if strength == 0:
            return 0
        return plan_steps(self._asked_steps(request), strength, self._step_rule)[1]

    def _asked_steps(self, request: DetailRequest) -> int:
        """The request's steps, or the share of them that the profile's model needs; at least 1."""
        return max(1, round(request.recipe.num_inference_steps * self._share_of_steps))

    def repaint(
        self,
        run: Run,
        pictures: list[Image],
        faces: Sequence[Sequence[Face]],
        config: PassConfig,
        pass_index: int,
    ) -> list[Image]:
        """One pass over some faces of each sample's picture, as one batch."""
        if not any(faces) or config.strength == 0:
            return pictures
        with run.stage("cut"):
            # Samples that still share their picture share its crops and masks too.
            wanted = {
                (id(picture), face): picture
                for picture, its_own in zip(pictures, faces, strict=True)
                for face in its_own
            }
            crops = [cut_face(picture, face.box, config) for (_, face), picture in wanted.items()]
        with run.stage("segment"):
            soft = self.segment(crops, config, [face.spared for _, face in wanted], run.should_stop)
            shown = [self._shown(crop) for crop in crops]
            cuts = dict(zip(wanted, zip(crops, soft, shown, strict=True), strict=True))
            orders = [
                Order(pass_index, sample, face, *cuts[id(picture), face])
                for sample, picture in enumerate(pictures)
                for face in faces[sample]
            ]
        with run.stage("inpaint"):
            steps = self._asked_steps(run.request)
            jobs = [
                order.job(run.request, _strength(run.request, order.face, config), steps)
                for order in orders
            ]
            counts = [self.steps(run.request, order.face, config) for order in orders]
            answers = self._inpainter.inpaint(jobs, run.stepping(orders, counts), run.should_stop)
        with run.stage("paste"):
            repaints: list[list[Repaint]] = [[] for _ in pictures]
            shares: list[list[Share]] = [[] for _ in pictures]
            for order, answer in zip(orders, answers, strict=True):
                run.asked.add((order.sample, order.face))
                if answer is not None and not is_blank(answer, order.crop.image, order.mask):
                    run.painted.add((order.sample, order.face))
                    answer = laid_back(answer, order.crop.image, order.shown)
                    painted = _match(answer, order, config)
                    repaint = Repaint(order.crop, painted, order.mask)
                    repaints[order.sample].append(repaint)
                    share = share_of(repaint, *pictures[order.sample].pixels.shape[:2])
                    shares[order.sample].append(share)
                    run.shares.setdefault((order.sample, order.face), []).append(share)
            after = [lay_in(*each) for each in zip(pictures, repaints, shares, strict=True)]
        run.on_pass(PassDone(config, tuple(map(tuple, repaints)), tuple(after)))
        return after

    def _shown(self, crop: FaceCrop) -> Image:
        """What the model sees of a crop: of a soft face, without what lies over it."""
        if not self._lifts_off or sharpness(crop.image, crop.box) >= SOFT_BELOW:
            return crop.image
        width_px = 2 * max(1, round(_THIN_SHARE * crop.region.work_px / 2 - 0.5)) + 1
        least_px = round(_LONG_SHARE * crop.region.work_px)
        return Image(lifted_off(crop.image.pixels, width_px, _THIN_LEVELS, least_px))

    def segment(
        self,
        crops: Sequence[FaceCrop],
        config: PassConfig,
        spared: Sequence[Sequence[FaceBox]],
        should_stop: ShouldStop,
    ) -> list[SoftMask]:
        """How much of each crop is repainted: the face, or an ellipse where the model is unsure.

        Args:
            crops: one per face.
            config: of the pass.
            spared: per face, the boxes of others, in image pixels, that stay as they are.
            should_stop: see `FaceSegmenter`.
        """
        found = self._segmenter.segment(crops, should_stop)
        soft = []
        for crop, mask, others in zip(crops, found, spared, strict=True):
            face, _ = masks.of_face(mask, crop.box, crop.region.work_px)
            longer_px = crop.box.longer_px
            hard = masks.grow(face, config.grow * longer_px)
            hard = masks.spare(hard, crop.box, [box_to_crop(box, crop.region) for box in others])
            soft.append(masks.feather_inside(hard, config.feather * longer_px))
        return soft


def _match(answer: Image, order: Order, config: PassConfig) -> Image:
    """The model's answer in the picture's colours, as the profile wants them matched."""
    crop = order.crop
    if config.tone == 0:
        matched = match_colour(answer, crop.image, order.mask)
    else:
        matched = keep_tone(answer, crop.image, config.tone * crop.box.longer_px)
    return keep_monochrome(matched, crop.image, order.mask)


def _strength(request: DetailRequest, face: Face, config: PassConfig) -> float:
    """How far up the noise a face starts in a pass."""
    return config.strength * face.strength * request.recipe.denoise


def cut_face(picture: Image, box: FaceBox, config: PassConfig) -> FaceCrop:
    """The face as one pass sees it, upright."""
    return cut(picture, box, plan_crop(box, config, box.quarter_turns))
