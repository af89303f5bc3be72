"""What is hidden under alpha 0 is neither seen nor found, and does not show at the edges."""

import io
import time

import numpy as np
import PIL.Image
import pytest
from composed import astronaut_pixels
from example_calls import request

from pipeline.encoding import encode
from pipeline.transparency import enlarge_alpha, extend, restore
from pipeline.types import Image

HIDDEN = [(0, 0, 0), (255, 255, 255), (255, 0, 255), (0, 255, 0)]


def astronaut(side: int) -> np.ndarray:
    photograph = PIL.Image.fromarray(astronaut_pixels())
    return np.array(photograph.resize((side, side), PIL.Image.Resampling.BOX))


def bust(side: int) -> np.ndarray:
    """(H, W) bool: head and shoulders of the astronaut, with a hard edge."""
    y, x = np.mgrid[:side, :side] * (512 / side)
    head = ((x - 225) / 110) ** 2 + ((y - 130) / 130) ** 2 <= 1
    return head | (((x - 225) / 210) ** 2 + ((y - 470) / 250) ** 2 <= 1)


def cut_out(hidden, side: int = 128) -> tuple[Image, np.ndarray]:
    pixels, mask = astronaut(side), bust(side)
    pixels[~mask] = hidden
    return Image(pixels), (mask * 255).astype(np.uint8)


def test_an_opaque_picture_is_the_same_one():
    image = Image(astronaut(64))
    assert extend(image, None) is image
    assert extend(image, np.full((64, 64), 255, np.uint8)) is image


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("shape", [(128, 128), (127, 101), (1, 37), (37, 1), (2, 2)])
def test_visible_pixels_keep_their_bytes_and_hidden_colours_leave_no_trace(hidden, shape):
    height, width = shape
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 110, (height, width, 3), dtype=np.uint8)
    alpha = (rng.random(shape) < 0.3).astype(np.uint8) * np.uint8(255)
    alpha.flat[0] = 255
    seen = pixels.copy()
    pixels[alpha == 0] = hidden
    extended = extend(Image(pixels), alpha).pixels
    assert np.array_equal(extended[alpha == 255], seen[alpha == 255])
    assert extended.min() >= 89
    assert extended.max() <= 110


def test_colours_continue_smoothly():
    """A slope that is hidden on the right goes on as it ends."""
    slope = np.tile(np.linspace(0, 200, 128).astype(np.uint8)[None, :, None], (64, 1, 3))
    alpha = np.full((64, 128), 255, np.uint8)
    alpha[:, 70:] = 0
    extended = extend(Image(np.ascontiguousarray(slope)), alpha).pixels
    assert np.abs(extended[:, 70:74].astype(int) - slope[:, 69:70]).max() <= 8


def test_where_nothing_is_visible_there_is_nothing():
    image = Image(astronaut(64))
    assert extend(image, np.zeros((64, 64), np.uint8)).pixels.max() == 0


def test_colours_that_rounding_has_spoilt_count_less():
    """Alpha 1 leaves one level of eight bits of colour: 0 or 255."""
    pixels = np.full((32, 32, 3), 120, np.uint8)
    alpha = np.full((32, 32), 255, np.uint8)
    pixels[:, 16:], alpha[:, 16:] = 255, 1
    extended = extend(Image(pixels), alpha).pixels
    assert extended[:, 16].max() <= 145


def test_a_large_cut_out_takes_seconds():
    image = Image(np.full((3000, 4000, 3), 99, np.uint8))
    alpha = np.zeros((3000, 4000), np.uint8)
    alpha[500:2500, 500:3500] = 255
    started = time.process_time()
    extend(image, alpha)
    assert time.process_time() - started < 8


def test_restored_is_what_was_not_changed():
    image, alpha = cut_out((255, 0, 255))
    extended = extend(image, alpha)
    assert np.array_equal(restore(extended, extended, image, alpha).pixels, image.pixels)
    changed = extended.pixels.copy()
    changed[20:40, 50:70] ^= 1
    result = restore(Image(changed), extended, image, alpha).pixels
    assert np.array_equal(result[alpha == 0], image.pixels[alpha == 0])
    assert np.array_equal(result[alpha > 0], changed[alpha > 0])


@pytest.mark.parametrize("factor", [2, 4])
def test_alpha_is_enlarged_without_ringing(factor):
    rng = np.random.default_rng(1)
    edge = np.zeros((8, 16), np.uint8)
    edge[:, 8:] = 255
    large = enlarge_alpha(edge, factor)
    assert large.shape == (8 * factor, 16 * factor)
    assert np.all(np.diff(large.astype(int), axis=1) >= 0)
    assert np.abs(large + large[:, ::-1].astype(int) - 255).max() <= 1
    assert (large == 0).sum() == (large == 255).sum() >= 14 * 4 * factor**2
    between = rng.integers(40, 200, (9, 7), dtype=np.uint8)
    assert enlarge_alpha(between, factor).min() >= between.min()
    assert enlarge_alpha(between, factor).max() <= between.max()


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("hidden", HIDDEN[:3])
@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_a_cut_out_is_enlarged_without_a_rim(quick, factor, hidden, image_format):
    """Along the edge the picture is what it is with its own colours under the transparent parts."""
    image, alpha = cut_out(hidden, side=96)
    own = Image(astronaut(96))
    result, whole = (
        quick.detail_faces(request(each, alpha=alpha, upscale=factor, denoise=0), [])
        for each in (image, own)
    )
    with PIL.Image.open(
        io.BytesIO(encode(result.images[0], result.alpha, image_format, 95))
    ) as opened:
        levels = np.array(opened.convert("RGBA")).astype(float)
    share = result.alpha[..., None] / 255
    if image_format == "png":
        assert np.array_equal(levels[..., 3], result.alpha)
        levels = levels[..., :3] * share + 255 * (1 - share)
    expected = whole.images[0].pixels * share + 255 * (1 - share)
    band = (result.alpha > 12) & (result.alpha < 255)
    assert np.abs(levels[..., :3] - expected)[band].mean() < 5
    error = (levels[..., :3] - expected)[band].mean(axis=1)
    assert np.percentile(error, 1) > -32
    assert np.percentile(error, 99) < 32


@pytest.mark.parametrize("denoise", [0, 0.4])
def test_at_the_same_size_hidden_bytes_stay(quick, denoise):
    image, alpha = cut_out((255, 0, 255), side=256)
    result = quick(request(image, alpha=alpha, denoise=denoise))
    pixels = result.images[0].pixels
    assert np.array_equal(pixels[alpha == 0], image.pixels[alpha == 0])
    assert (denoise == 0) == np.array_equal(pixels, image.pixels)


@pytest.mark.slow
def test_a_face_that_nobody_sees_is_not_found(quick):
    pixels = astronaut(512)
    alpha = np.full((512, 512), 255, np.uint8)
    assert quick(request(Image(pixels), alpha=alpha)).faces
    alpha[:260, 120:380] = 0
    for hidden in (alpha, np.zeros_like(alpha)):
        result = quick(request(Image(pixels), alpha=hidden))
        assert result.faces == ()
        assert np.array_equal(result.images[0].pixels, pixels)
