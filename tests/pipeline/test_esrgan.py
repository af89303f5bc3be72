"""The upscaler on its real network, the tiny profile's."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact

from pipeline.config import UpscalerConfig
from pipeline.errors import InvalidValue, WeightsError
from pipeline.models.esrgan import EsrganUpscaler, load_upscaler, tile_spans
from pipeline.types import Image

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "weights" / "tiny"
WEIGHTS = {2: "upscaler/x2.safetensors"}


def load(tile_px: int = 512) -> EsrganUpscaler:
    return load_upscaler(TINY, UpscalerConfig(WEIGHTS, tile_px), "cpu")


@pytest.fixture(scope="module")
def upscaler() -> EsrganUpscaler:
    return load()


def photograph(width: int, height: int) -> PilImage.Image:
    """A part of the astronaut picture, around the face: skin, hair, cloth, a flag's edges."""
    with PilImage.open(ROOT / "examples" / "astronaut.png") as picture:
        return picture.convert("RGB").crop((100, 0, 100 + width, height))


def as_image(picture: PilImage.Image) -> Image:
    return Image(np.array(picture))


def psnr(got: np.ndarray, wanted: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((got.astype(float) - wanted.astype(float)) ** 2))


@pytest.mark.parametrize("kernel", [PilImage.Resampling.BOX, PilImage.Resampling.BICUBIC])
def test_a_halved_photograph_comes_back_nearer_than_by_lanczos(
    upscaler: EsrganUpscaler, kernel: PilImage.Resampling
) -> None:
    whole = photograph(256, 256)
    half = whole.resize((128, 128), kernel)
    got = upscaler.upscale(as_image(half), 2).pixels
    lanczos = np.array(half.resize((256, 256), PilImage.Resampling.LANCZOS))
    assert psnr(got, np.array(whole)) > psnr(lanczos, np.array(whole)) + 0.5


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (7, 33), (65, 40)])
@pytest.mark.parametrize("factor", [2, 4])
def test_every_size_is_multiplied(
    upscaler: EsrganUpscaler, width: int, height: int, factor: int
) -> None:
    image = as_image(photograph(width, height))
    assert upscaler.upscale(image, factor).pixels.shape == (height * factor, width * factor, 3)


def test_colours_are_kept(upscaler: EsrganUpscaler) -> None:
    image = as_image(photograph(160, 160))
    got = upscaler.upscale(image, 4).pixels
    means = np.abs(got.mean(axis=(0, 1)) - image.pixels.mean(axis=(0, 1)))
    assert means.max() < 1
    for level in (0, 128, 255):
        flat = Image(np.full((24, 24, 3), level, np.uint8))
        got = upscaler.upscale(flat, 2).pixels[8:-8, 8:-8]
        assert np.abs(got.astype(int) - level).max() <= 6


def test_four_is_two_twice_where_the_profile_has_no_network_for_four(
    upscaler: EsrganUpscaler,
) -> None:
    image = as_image(photograph(40, 30))
    twice = upscaler.upscale(upscaler.upscale(image, 2), 2)
    np.testing.assert_array_equal(upscaler.upscale(image, 4).pixels, twice.pixels)


@pytest.mark.parametrize(("width", "height"), [(200, 131), (64, 200), (129, 64)])
def test_tiles_leave_no_seam(width: int, height: int) -> None:
    image = as_image(photograph(width, height))
    whole = load(tile_px=0).upscale(image, 2).pixels.astype(int)
    tiled = load(tile_px=64).upscale(image, 2).pixels.astype(int)
    assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
def test_every_tile_is_told_and_all_add_up(factor: int) -> None:
    upscaler, image, told = load(tile_px=64), as_image(photograph(200, 131)), []
    upscaler.upscale(image, factor, told.append)
    twice = 4 * 3 if factor == 2 else 4 * 3 + 7 * 5
    assert len(told) == twice
    assert sum(told) == upscaler.pixels(image, factor)


def test_the_picture_itself_is_not_written_to(upscaler: EsrganUpscaler) -> None:
    pixels = np.array(photograph(30, 30))
    pixels.flags.writeable = False
    before = pixels.tobytes()
    upscaler.upscale(Image(pixels), 2)
    assert pixels.tobytes() == before


def test_threads_get_what_one_gets(upscaler: EsrganUpscaler) -> None:
    images = [as_image(photograph(48 + 8 * index, 40)) for index in range(6)]
    alone = [upscaler.upscale(image, 2).pixels for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda image: upscaler.upscale(image, 2).pixels, images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_factors_are_refused(upscaler: EsrganUpscaler) -> None:
    with pytest.raises(InvalidValue, match="factor of 2 or 4, got 3"):
        upscaler.upscale(as_image(photograph(8, 8)), 3)


def test_spans_cover_an_axis_once() -> None:
    spans = list(tile_spans(200, 64, 16))
    kept = [pixel for span in spans for pixel in range(span.start, span.stop)]
    assert kept == list(range(200))
    assert (spans[0].read_from, spans[0].read_to) == (0, 80)
    assert (spans[-1].read_from, spans[-1].read_to) == (176, 200)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing: x2\.safetensors"):
        load_upscaler(tmp_path, UpscalerConfig({2: "x2.safetensors"}, 0), "cpu")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x2.safetensors").write_bytes(b"not weights")
    with pytest.raises(WeightsError, match=r"cannot be read: x2\.safetensors"):
        load_upscaler(tmp_path, UpscalerConfig({2: "x2.safetensors"}, 0), "cpu")


def test_a_network_of_another_kind_is_named(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3, 3)}, tmp_path / "x2.safetensors")
    with pytest.raises(WeightsError, match=r"cannot be read: x2\.safetensors"):
        load_upscaler(tmp_path, UpscalerConfig({2: "x2.safetensors"}, 0), "cpu")


def test_a_network_of_another_scale_is_refused(tmp_path: Path) -> None:
    save_file(Compact(num_feat=4, num_conv=1, upscale=4).state_dict(), tmp_path / "x2.safetensors")
    with pytest.raises(WeightsError, match=r"expected an RGB upscaler by 2.*scale 4"):
        load_upscaler(tmp_path, UpscalerConfig({2: "x2.safetensors"}, 0), "cpu")
