"""What the walk leaves of a picture, wherever a face lies in it, whatever the model paints.

The crops are the embedded profile's; the paint is made up, so that what is right is known. Both
ways to match colours are walked, each with the masks of the profile that has it: to the ring around
the mask, as `sdxl` does, and by coarse tone, as `tiny` does.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from detail_requests import asking
from repainters import (
    SHARPENED_PX,
    Pixels,
    Repainter,
    brighter,
    darker,
    hue_turned,
    negative,
    rebuilt,
    same,
    sharper,
)
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.registration import phase_cross_correlation

from pipeline.compositing import cut, paste
from pipeline.config import PassConfig
from pipeline.config_reading import read_profile
from pipeline.detailer import FaceDetailer
from pipeline.encoding import encode
from pipeline.geometry import crop_matrix, turned
from pipeline.images import decode
from pipeline.run import PassDone
from pipeline.types import FaceBox, Image

SDXL = Path(__file__).parents[2] / "weights" / "sdxl"
EXAMPLE = PIL.Image.open(Path(__file__).parents[2] / "examples" / "astronaut.png")
# The face and what is around it, of even sides.
PORTRAIT = EXAMPLE.convert("RGB").crop((80, 0, 380, 300))
FACE = FaceBox(100, 70, 192, 178, 0.9)
# `tone` of both passes: 0 matches colours to the ring, else coarse colours are the picture's.
TONES = [0.0, 0.2]


@dataclass(frozen=True)
class Scene:
    """A picture as decoded from a file, and a face in it."""

    picture: Image
    alpha: np.ndarray | None
    face: FaceBox


def scene(left: int = 0, top: int = 0, right: int = 300, bottom: int = 300, scale: float = 1.0):
    """A part of the portrait, enlarged or shrunk."""
    part = PORTRAIT.crop((left, top, right, bottom))
    part = part.resize((round(part.width * scale), round(part.height * scale)))
    box = (FACE.x0 - left, FACE.y0 - top, FACE.x1 - left, FACE.y1 - top)
    return decoded(part, FaceBox(*(value * scale for value in box), 0.9))


def decoded(picture: PIL.Image.Image, face: FaceBox) -> Scene:
    file = io.BytesIO()
    picture.save(file, "png")
    got = decode(file.getvalue(), max_pixels=10**7, max_side_px=4096)
    return Scene(got.image, got.alpha, face)


def see_through() -> Scene:
    alpha = PIL.Image.radial_gradient("L").resize(PORTRAIT.size)
    picture = PORTRAIT.copy()
    picture.putalpha(alpha)
    return decoded(picture, FACE)


def on_its_side() -> Scene:
    picture = PORTRAIT.transpose(PIL.Image.Transpose.ROTATE_90)
    return decoded(picture, turned(FACE, *PORTRAIT.size, 1))


SCENES: dict[str, Callable[[], Scene]] = {
    "middle": scene,
    "odd sides": lambda: scene(0, 0, 257, 233),
    "border": lambda: scene(left=131),
    "corner": lambda: scene(left=151, top=131),
    "frame-filling": lambda: scene(95, 65, 199, 184),
    "16 px": lambda: scene(scale=16 / 108),
    "1 px": lambda: scene(scale=1 / 108),
    "larger than the work size": lambda: scene(scale=2.51),
    "beyond the border": lambda: replace(scene(left=170), face=FaceBox(-60, 60, 30, 180, 0.9)),
    "lying": on_its_side,
    "RGBA": see_through,
    "grey": lambda: decoded(PORTRAIT.convert("L"), FACE),
}
COLOUR_SCENES = ["odd sides", "border", "corner", "frame-filling", "16 px", "RGBA", "grey"]


@dataclass(frozen=True)
class Walk:
    """A finished walk. `passes`: what each laid in."""

    scene: Scene
    result: Pixels
    alpha: np.ndarray | None
    passes: list[PassDone]


def masked_like(config: PassConfig, other: PassConfig) -> PassConfig:
    return replace(config, tone=other.tone, grow=other.grow, feather=other.feather)


@pytest.fixture
def walk(detailer: FaceDetailer) -> Callable[..., Walk]:
    def run(name: str, tone: float, paint: Callable[[Pixels], Pixels]) -> Walk:
        profile = detailer.profile
        if tone == 0:
            masks = read_profile(SDXL)
            profile = replace(
                profile,
                outline=masked_like(profile.outline, masks.outline),
                detail=masked_like(profile.detail, masks.detail),
            )
        assert (profile.outline.tone, profile.detail.tone) == (tone, tone)
        painting = rebuilt(detailer, Repainter(paint), profile)
        its, passes = SCENES[name](), []
        request = asking(its.picture, "a face", 0.4, alpha=its.alpha)
        result = painting.detail_faces(request, [its.face], on_pass=passes.append)
        assert len(passes) == 2
        return Walk(its, result.images[0].pixels, result.alpha, passes)

    return run


def reached(done: PassDone) -> Pixels:
    """(H, W) bool: the picture's pixels that the mask of a pass may reach."""
    (repaint,) = done.repaints[0]
    shape = done.pictures[0].pixels.shape[:2]
    # A pixel of the picture covers `scale` pixels of the crop, and resampling one or two more.
    reach_px = 2 * int(np.ceil(repaint.crop.region.scale)) + 1
    # A pixel may lie half in the crop, with its centre outside.
    mask = np.pad((repaint.mask.pixels > 0).astype(np.uint8), reach_px)
    mask = cv2.dilate(mask, np.ones((reach_px, reach_px), np.uint8))
    matrix = crop_matrix(repaint.crop.region)
    matrix[:, 2] += reach_px
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # cv2 counts from the pixels' centres
    how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask, matrix, shape[::-1], flags=how) > 0


@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("name", SCENES)
def test_a_denoiser_that_changes_nothing_gives_the_picture_back(walk, name, tone):
    walked = walk(name, tone, same)
    assert np.array_equal(walked.result, walked.scene.picture.pixels)
    if name == "RGBA":
        assert np.array_equal(walked.alpha, walked.scene.alpha)
        file = encode(Image(walked.result), walked.alpha, "png", 95)
        again = decode(file, max_pixels=10**7, max_side_px=4096)
        assert np.array_equal(again.image.pixels, walked.scene.picture.pixels)
        assert np.array_equal(again.alpha, walked.scene.alpha)
    else:
        assert walked.alpha is None
    if name == "grey":
        assert np.array_equal(walked.result[..., 0], walked.result[..., 2])


def kept_share(done: PassDone) -> Pixels:
    """(H, W) in [0, 1]: how much of a pass's paint each pixel of the picture takes."""
    (repaint,) = done.repaints[0]
    black = Image(np.zeros_like(done.pictures[0].pixels))
    crop = cut(black, repaint.crop.box, repaint.crop.region)
    white = Image(np.full_like(crop.image.pixels, 255))
    return paste(black, white, crop, repaint.mask).pixels[..., 0] / 255


@pytest.mark.slow
@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("name", [name for name in SCENES if name != "1 px"])
def test_what_is_painted_is_not_shifted(walk, name, tone):
    """Sharpening adds what a blur takes: by phase correlation, it is added where it belongs."""
    walked = walk(name, tone, sharper)
    repaint = walked.passes[-1].repaints[0][0]
    before, after = (
        cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32)
        for p in (walked.scene.picture.pixels, walked.result)
    )
    blurred = cv2.GaussianBlur(before, (0, 0), SHARPENED_PX / repaint.crop.region.scale)
    wanted = kept_share(walked.passes[-1]) * (before - blurred)
    shift, _, _ = phase_cross_correlation(
        wanted, after - before, upsample_factor=100, normalization=None
    )
    assert np.hypot(*shift) < 0.1


@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("name", SCENES)
def test_where_no_mask_reaches_bytes_stay(walk, name, tone):
    walked = walk(name, tone, negative)
    changed = (walked.result != walked.scene.picture.pixels).any(axis=2)
    touched = np.logical_or.reduce([reached(done) for done in walked.passes])
    assert not changed[~touched].any()
    if name == "1 px":
        return  # less than a pixel of mask; with the picture's tone, that pixel may stay
    inner = [
        cv2.erode(reached(done).astype(np.uint8), np.ones((3, 3))) > 0 for done in walked.passes
    ]
    assert changed[np.logical_and.reduce(inner)].mean() > 0.8


@pytest.mark.parametrize("name", SCENES)
def test_no_mask_leaves_the_face_uncovered(walk, name):
    """The middle of the face, half as wide and as high as its box, is repainted in both passes."""
    for done in walk(name, 0.0, same).passes:
        (repaint,) = done.repaints[0]
        crop = repaint.crop
        x, y = (np.arange(crop.region.work_px) + 0.5 - at for at in crop.box.centre_xy)
        middle = (4 * x / crop.box.width_px) ** 2 + (4 * y[:, None] / crop.box.height_px) ** 2 <= 1
        kept = repaint.mask.pixels[middle]
        assert kept.size == 0 or kept.mean() > 0.9


def mean_lab(pixels: Pixels) -> Pixels:
    return rgb2lab(pixels).mean(axis=0)


def colour_steps(walked: Walk, done: PassDone) -> list[float]:
    """The steps of colour at a pass's edge, one for each quarter of the way around the face.

    Just inside is a band 2 px wide, or a twentieth of the face where that is more; just outside the
    pass changes no pixel. So the step is how far it, and what came after it, moved the band's mean
    colour: ΔE of CIE 2000.
    """
    index = walked.passes.index(done)
    previous = walked.passes[index - 1].pictures[0] if index else walked.scene.picture
    inside = kept_share(done) > 0
    # The picture's border is no edge of the mask.
    depth = cv2.distanceTransform(np.pad(inside, 1, "edge").astype(np.uint8), cv2.DIST_L2, 5)
    band = inside & (depth[1:-1, 1:-1] <= max(2.0, walked.scene.face.longer_px / 20))
    rows, columns = np.nonzero(inside)
    y, x = np.mgrid[: inside.shape[0], : inside.shape[1]]
    turn = np.arctan2(y - rows.mean(), x - columns.mean()) / (2 * np.pi) % 1
    sectors = [band & ((turn * 4).astype(int) == sector) for sector in range(4)]
    return [
        float(deltaE_ciede2000(*(mean_lab(p[sector]) for p in (previous.pixels, walked.result))))
        for sector in sectors
        if np.count_nonzero(sector) >= 8
    ]


@pytest.mark.parametrize("paint", [brighter, darker, hue_turned(5), hue_turned(-5)])
@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("name", COLOUR_SCENES)
def test_a_shift_of_colour_leaves_no_step_at_the_masks_edge(walk, name, tone, paint):
    """Brightness by a tenth, hue by 5°; the worst quarter of each pass's edge counts."""
    walked = walk(name, tone, paint)
    steps = [step for done in walked.passes for step in colour_steps(walked, done)]
    assert len(steps) >= 4
    assert max(steps) < 1
