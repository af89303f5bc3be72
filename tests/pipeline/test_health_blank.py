"""One colour is no face; anything that a model may make of a face is."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from detail_requests import asking
from repainters import rebuilt

from pipeline.compositing import cut
from pipeline.detailer import FaceDetailer
from pipeline.errors import ModelFailed
from pipeline.health import is_blank
from pipeline.stages import OnStep, ShouldStop
from pipeline.types import CropRegion, FaceBox, Image, InpaintJob, SoftMask

EXAMPLES = Path(__file__).parents[2] / "examples"
DAMAGED = Image(
    cv2.cvtColor(cv2.imread(str(EXAMPLES / "astronaut-damaged.jpg")), cv2.COLOR_BGR2RGB)
)
FACE, ELSEWHERE = FaceBox(180, 70, 272, 178, 0.9), FaceBox(40, 300, 110, 380, 0.5)
CROP = cut(DAMAGED, FACE, CropRegion(FACE.centre_xy, 216, 256)).image


def disc(radius: float = 0.25) -> SoftMask:
    y, x = (np.mgrid[:256, :256] + 0.5) / 256 - 0.5
    return SoftMask(np.clip((radius - np.hypot(x, y)) * 20, 0, 1).astype(np.float32))


def plain(*colour: int) -> Image:
    return Image(np.full((256, 256, 3), colour, np.uint8))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (127, 127, 127), (200, 30, 90)])
def test_one_colour_is_blank(colour: tuple[int, int, int]) -> None:
    assert is_blank(plain(*colour), CROP, disc())


def test_it_is_blank_whatever_surrounds_it() -> None:
    """Latents lost inside the mask only: the decoder paints the rest as it was."""
    pixels = np.where(disc().pixels[:, :, None] > 0, 0, CROP.pixels)
    assert is_blank(Image(pixels), CROP, disc())


def test_a_decoders_own_pattern_on_one_colour_is_blank() -> None:
    noise = np.random.default_rng(0).normal(120, 1.5, CROP.pixels.shape)
    assert is_blank(Image(noise.round().astype(np.uint8)), CROP, disc())


def test_what_is_repainted_is_not() -> None:
    blurred = Image(cv2.GaussianBlur(CROP.pixels, (0, 0), 12))
    dull = Image((CROP.pixels * 0.3 + 80).astype(np.uint8))
    tinted = Image(CROP.pixels * np.array([1, 0, 0], np.uint8))
    for painted in (CROP, blurred, dull, tinted, Image(255 - CROP.pixels)):
        assert not is_blank(painted, CROP, disc())


def test_a_face_in_fog_may_stay_in_fog() -> None:
    """Little contrast is no reason, where the picture had no more."""
    fog = Image((CROP.pixels * 0.05 + 200).astype(np.uint8))
    assert not is_blank(fog, fog, disc())


def test_a_plain_picture_may_stay_plain() -> None:
    assert not is_blank(plain(90, 90, 90), plain(128, 128, 128), disc())


class Black:
    """Gives black for the first job of every batch, and the others back as they are."""

    def unread(self, _prompt: str) -> str:
        return ""

    def inpaint(
        self, jobs: list[InpaintJob], _on_step: OnStep, _should_stop: ShouldStop
    ) -> list[Image | None]:
        black = Image(np.zeros_like(jobs[0].image.pixels))
        return [black, *(Image(255 - job.image.pixels) for job in jobs[1:])]


def test_a_face_whose_repaint_is_blank_stays_and_is_counted(
    detailer: FaceDetailer,
) -> None:
    walked = rebuilt(detailer, Black())
    request = asking(DAMAGED, "a face", 0.5)
    result = walked.detail_faces(request, [FACE, ELSEWHERE])
    changed = (result.images[0].pixels != DAMAGED.pixels).any(axis=2)
    assert result.unchanged == 1
    assert not changed[:250].any()
    assert changed[250:].any()


def test_where_all_repaints_are_blank_the_model_has_failed(detailer: FaceDetailer) -> None:
    walked = rebuilt(detailer, Black())
    with pytest.raises(ModelFailed, match="single colour"):
        walked.detail_faces(asking(DAMAGED, "a face", 0.5), [FACE])
