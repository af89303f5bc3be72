"""Grey stays grey and a tint stays a tint when a picture is enlarged; colours stay colours."""

import cv2
import numpy as np
import pytest
from composed import astronaut_pixels
from example_calls import request

from pipeline.tint import keep_tint
from pipeline.types import Image

COLOURS = np.ascontiguousarray(astronaut_pixels()[40:200, 150:310])
GREY = cv2.cvtColor(COLOURS, cv2.COLOR_RGB2GRAY)
LIGHT = (GREY / 255.0)[..., None]
TINTS = {
    "sepia": lambda light: 255 * np.maximum(light, 0) ** np.array([0.8, 1.0, 1.35]),
    "a line": lambda light: 40 + light * np.array([190, 170, 140]),
    "selenium": lambda light: 255 * np.maximum(light, 0) ** np.array([1.02, 1.1, 0.95]),
    "cyanotype": lambda light: np.array([10, 40, 90]) + light * np.array([235, 210, 160]),
}


def noisy_network(image: Image, factor: int) -> Image:
    """Enlarged, with colours of its own, as networks add them."""
    rng = np.random.default_rng(0)
    size = (image.width_px * factor, image.height_px * factor)
    large = cv2.resize(image.pixels, size, interpolation=cv2.INTER_CUBIC)
    colours = cv2.resize(rng.normal(0, 12, image.pixels.shape), size)
    return Image(np.clip(large + colours, 0, 255).astype(np.uint8))


def tinted(name: str) -> np.ndarray:
    return np.rint(TINTS[name](LIGHT)).clip(0, 255).astype(np.uint8)


def off_tint(pixels: np.ndarray, name: str) -> np.ndarray:
    """How far each pixel is from the tint's colour of its lightness, in levels.

    Networks also make blacks a little blacker, and whites whiter: there the tint goes on.
    """
    curve = np.clip(TINTS[name](np.linspace(-0.3, 1.3, 4096)[:, None]), 0, 255)
    weights = np.array([0.299, 0.587, 0.114])
    lights, ascending = np.unique(curve @ weights, return_index=True)
    expected = [np.interp(pixels @ weights, lights, curve[ascending, c]) for c in range(3)]
    return np.abs(pixels - np.dstack(expected)).max(axis=2)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    _, file = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.ascontiguousarray(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1])


def spread(pixels: np.ndarray) -> np.ndarray:
    return np.ptp(pixels.astype(int), axis=2)


@pytest.mark.parametrize("factor", [2, 4])
def test_grey_stays_grey_exactly(factor):
    image = Image(np.repeat(GREY[..., None], 3, axis=2))
    network = noisy_network(image, factor)
    assert spread(network.pixels).max() > 20
    kept = keep_tint(network, image).pixels
    assert spread(kept).max() == 0
    assert np.array_equal(kept[..., 0], cv2.cvtColor(network.pixels, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("name", TINTS)
def test_a_tint_stays_on_its_line(factor, name):
    image = Image(tinted(name))
    network = noisy_network(image, factor)
    assert np.percentile(off_tint(network.pixels, name), 99) > 10
    kept = keep_tint(network, image)
    assert off_tint(kept.pixels, name).max() <= 4
    assert np.percentile(off_tint(kept.pixels, name), 99) <= 3
    lights = [cv2.cvtColor(each.pixels, cv2.COLOR_RGB2GRAY).astype(int) for each in (kept, network)]
    assert np.abs(lights[0] - lights[1])[5:-5, 5:-5].mean() < 1


@pytest.mark.parametrize("name", ["grey", "sepia"])
def test_a_line_in_red_ink_stays_red_and_the_rest_stays_as_it_is(name):
    pixels = np.repeat(GREY[..., None], 3, axis=2) if name == "grey" else tinted(name)
    pixels = pixels.copy()
    pixels[10:13, 20:140] = (200, 20, 20)
    kept = keep_tint(noisy_network(Image(pixels), 2), Image(pixels)).pixels
    red = kept[22:24, 60:260].astype(int)
    assert np.abs(red - (200, 20, 20)).mean() < 12
    rest = np.delete(kept, slice(12, 34), axis=0)
    assert (spread(rest).max() == 0) if name == "grey" else (off_tint(rest, name).max() <= 4)


# Where a patch is, and its colour.
STAMP = (slice(120, 140), slice(8, 58)), (200, 30, 30)
WIDE_STAMP = (slice(120, 140), slice(8, 108)), (60, 120, 200)
DARK = (slice(8, 28), slice(100, 150)), (20, 20, 120)
LIGHT_YELLOW = (slice(70, 90), slice(4, 44)), (250, 230, 60)
PINK = (slice(130, 158), slice(80, 150)), (240, 200, 220)


@pytest.mark.parametrize(
    "patches",
    [[STAMP], [WIDE_STAMP], [DARK], [LIGHT_YELLOW], [PINK], [STAMP, DARK]],
    ids=["red", "wide blue", "dark blue", "yellow", "pink", "red and dark blue"],
)
@pytest.mark.parametrize("name", ["grey", *TINTS])
def test_a_solid_patch_colours_nothing_that_is_as_light_as_it(name, patches):
    pixels = np.repeat(GREY[..., None], 3, axis=2) if name == "grey" else tinted(name).copy()
    near = np.zeros((320, 320), np.uint8)
    for where, colour in patches:
        pixels[where] = colour
        near[tuple(slice(2 * side.start, 2 * side.stop) for side in where)] = 1
    kept = keep_tint(noisy_network(Image(pixels), 2), Image(pixels)).pixels
    for (rows, columns), colour in patches:
        inner = kept[2 * rows.start + 6 : 2 * rows.stop - 6, 2 * columns.start + 6 :][:, :60]
        assert np.abs(inner.astype(int) - colour).mean() < 12
    off = spread(kept) if name == "grey" else off_tint(kept, name)
    rest = off[cv2.dilate(near, np.ones((25, 25))) == 0]
    assert rest.max() <= (0 if name == "grey" else 5)


@pytest.mark.parametrize("colour", [(200, 30, 30), (60, 120, 200), (20, 20, 120), (250, 230, 60)])
@pytest.mark.parametrize("name", ["grey", "a line", "selenium"])
def test_a_solid_patch_in_a_jpeg_leaves_the_rest_as_it_is_without_it(name, colour):
    plain = np.repeat(GREY[..., None], 3, axis=2) if name == "grey" else tinted(name)
    stamped = plain.copy()
    stamped[128:144, 16:48] = colour
    off = []
    for pixels in (plain, stamped):
        image = Image(jpeg(pixels))
        kept = keep_tint(noisy_network(image, 2), image).pixels
        off.append(spread(kept) if name == "grey" else off_tint(kept, name))
        off[-1][2 * 96 : 2 * 160, : 2 * 80] = 0
    assert np.percentile(off[1], 99.9) <= np.percentile(off[0], 99.9) + 1


def test_grey_parts_of_a_coloured_picture_stay_grey():
    pixels = np.concatenate([COLOURS, np.repeat(GREY[..., None], 3, axis=2)], axis=1)
    image = Image(pixels)
    network = noisy_network(image, 2)
    kept = keep_tint(network, image).pixels
    width = 2 * GREY.shape[1]
    assert spread(kept[:, width + 4 :]).max() == 0
    changed = (kept[:, : width - 4] != network.pixels[:, : width - 4]).any(axis=2)
    assert changed.mean() < 0.02


def test_a_coloured_picture_is_as_the_network_made_it():
    network = noisy_network(Image(COLOURS), 2)
    kept = keep_tint(network, Image(COLOURS)).pixels
    assert (kept != network.pixels).any(axis=2).mean() < 0.02


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("name", ["grey", "sepia"])
def test_the_embedded_network_adds_no_colour(quick, factor, name):
    pixels = np.repeat(GREY[..., None], 3, axis=2) if name == "grey" else tinted(name)
    result = quick.detail_faces(request(Image(pixels), upscale=factor, denoise=0), [])
    large = result.images[0].pixels
    assert (spread(large).max() == 0) if name == "grey" else (off_tint(large, name).max() <= 4)
    assert large.shape == (160 * factor, 160 * factor, 3)
