"""A picture of one tone stays in it: black-and-white, sepia, selenium, with whatever lies on it."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from detail_requests import asking
from example_calls import SOUND, disc_mask

from pipeline.monochrome import keep_monochrome
from pipeline.types import Image

Pixels = np.ndarray

# The face in the pictures below, and where its eyes are.
FACE = (slice(70, 180), slice(85, 175))
# A tone gives a grey level, in [0, 1], its colour.
TONES: dict[str, Callable[[Pixels], Pixels]] = {
    "grey": lambda g: np.dstack([g, g, g]),
    "sepia": lambda g: np.dstack([g * 1.05 + 0.04, g * 0.95, g * 0.77]),
    "selenium": lambda g: np.dstack([g * 0.93 + 0.06, g * 0.94, g * 0.92 + 0.07]),
    "cyanotype": lambda g: np.dstack([g**1.4, g, 0.25 + 0.75 * g**0.9]),
    "split": lambda g: np.dstack([g**0.9, g**0.97, 0.1 + 0.8 * g]),
}


def toned(tone: str) -> Pixels:
    """A soft portrait, (256, 256, 3) uint8."""
    grey = cv2.cvtColor(SOUND.pixels[:256, 96:352], cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC) / 255
    return (np.clip(TONES[tone](soft), 0, 1) * 255 + 0.5).astype(np.uint8)


def speck(pixels: Pixels) -> None:
    pixels[60, 150] = 200, 20, 20


def pen_line(pixels: Pixels) -> None:
    cv2.line(pixels, (60, 230), (200, 90), (40, 50, 190), 2)


def date_stamp(pixels: Pixels) -> None:
    cv2.putText(pixels, "12 5 '84", (120, 165), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 140, 20), 2)


def coloured_frame(pixels: Pixels) -> None:
    cv2.rectangle(pixels, (0, 0), (255, 255), (190, 60, 40), 30)


def colour_noise(pixels: Pixels) -> None:
    noise = np.random.default_rng(0).normal(0, 10, pixels.shape)
    pixels[:] = np.clip(pixels + noise, 0, 255)


def jpeg(pixels: Pixels) -> None:
    _, file = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])
    pixels[:] = cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]


def jpeg_90(pixels: Pixels) -> Pixels:
    _, file = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.ascontiguousarray(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1])


def off_tone(pixels: Pixels, tone: str) -> Pixels:
    """(H, W) how far the colours of a face are from those of the tone, in Lab, coarsely."""
    face = cv2.GaussianBlur(pixels[FACE], (0, 0), 3)
    levels = np.clip(TONES[tone](np.linspace(0, 1, 1024)[None]), 0, 1).astype(np.float32)
    curve = cv2.cvtColor(levels, cv2.COLOR_RGB2Lab)[0]
    lab = cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    a, b = (np.interp(lab[..., 0], curve[:, 0], curve[:, channel]) for channel in (1, 2))
    return np.hypot(lab[..., 1] - a, lab[..., 2] - b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tone", "mark"),
    [
        ("grey", None),
        ("grey", speck),
        ("grey", pen_line),
        ("grey", date_stamp),
        ("grey", coloured_frame),
        ("grey", colour_noise),
        ("sepia", None),
        ("sepia", jpeg),
        ("sepia", pen_line),
        ("selenium", speck),
        ("cyanotype", None),
        ("split", None),
    ],
)
def test_a_face_stays_in_its_pictures_tone(detailer, tone, mark):
    pixels = toned(tone)
    if mark:
        mark(pixels)
    picture = Image(pixels)
    (result,) = detailer(asking(picture, "blue eyes, red lips", 0.4)).images
    assert np.abs(result.pixels.astype(int) - pixels)[FACE].max() > 5
    before, after = (off_tone(image.pixels, tone) for image in (picture, result))
    marked = before > 2
    more = after - before
    assert np.quantile(more[~marked], 0.999) < 2.5
    assert more.max() < 12, "a mark is no licence to paint beside it"


@pytest.mark.slow
def test_an_enlarged_black_and_white_photograph_stays_one(detailer):
    """Enlarging may tint by a few levels, which nobody sees."""
    (result,) = detailer(asking(Image(toned("grey")), "blue eyes, red lips", 0.4, upscale=2)).images
    assert np.ptp(result.pixels.astype(int), axis=2).max() <= 4


def test_grey_keeps_what_a_codec_made_of_it_and_takes_the_lightness_of_the_paint():
    rng = np.random.default_rng(2)
    codec = rng.integers(-1, 2, (256, 256, 3))
    original = Image((rng.integers(20, 200, (256, 256, 1)) + codec).astype(np.uint8))
    mask = disc_mask()
    assert np.array_equal(keep_monochrome(original, original, mask).pixels, original.pixels)
    warmer = original.pixels + np.array((40, 10, -20))
    painted = Image(warmer.clip(0, 255).astype(np.uint8))
    change = keep_monochrome(painted, original, mask).pixels.astype(int) - original.pixels
    assert np.ptp(change, axis=2).max() == 0
    lightness = cv2.COLOR_RGB2GRAY
    wanted = cv2.cvtColor(painted.pixels, lightness).astype(int)
    wanted -= cv2.cvtColor(original.pixels, lightness)
    assert np.array_equal(change[..., 0], wanted)


# Colours beside the face, each on 5 to 13 % of the mask, which is a disc of 90 pixels' radius.
BESIDE = (slice(None), slice(188, None)), (60, 120, 200)
BELOW = (slice(180, None), slice(None, 128)), (200, 30, 30)
YELLOW = (slice(None), slice(None, 68)), (240, 220, 40)
NARROW = (slice(None), slice(198, None)), (20, 20, 120)
FLAT = (slice(196, None), slice(None, 120)), (240, 200, 220)


@pytest.mark.parametrize("file", [np.copy, jpeg_90], ids=["exact", "jpeg"])
@pytest.mark.parametrize(
    "patches",
    [[], [BESIDE], [BELOW], [YELLOW], [NARROW, FLAT]],
    ids=["none", "blue", "red", "yellow", "dark blue and pink"],
)
@pytest.mark.parametrize("tone", TONES)
def test_a_flat_patch_beside_a_face_tints_none_of_it(tone, patches, file):
    pixels = toned(tone)
    for where, colour in patches:
        pixels[where] = colour
    original = Image(file(pixels))
    y, x = np.mgrid[:256, :256]
    paint = original.pixels + 40 * np.sin(x / 5)[..., None] * np.sin(y / 7)[..., None]
    paint += np.array((10, -5, 20)) * np.cos(x / 9)[..., None]
    painted = Image(np.clip(paint, 0, 255).astype(np.uint8))
    kept = keep_monochrome(painted, original, disc_mask())
    before, after = (off_tone(image.pixels, tone) for image in (original, kept))
    assert off_tone(painted.pixels, tone).max() > 5
    assert np.quantile((after - before)[before < 2], 0.999) < 3.2


def test_a_face_in_colour_takes_the_paint_as_it_is():
    face = Image(np.ascontiguousarray(SOUND.pixels[:256, 96:352]))
    painted = Image(255 - face.pixels)
    assert keep_monochrome(painted, face, disc_mask()) is painted
