"""`face-detailer eval upscale`: which part is measured, the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from evaluation.upscale.quality import middle
from pipeline.types import Image

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"


def test_the_middle_shrinks_to_whole_pixels() -> None:
    pixels = np.zeros((103, 50, 3), np.uint8)
    pixels[50:53, 24:26] = 255
    part = middle(Image(pixels), 41).pixels
    assert part.shape == (40, 40, 3)
    assert (part[19:22, 19:21] == 255).all()
    assert part.sum() == pixels.sum()
    assert middle(Image(pixels), 400).pixels.shape == (100, 48, 3)


@pytest.mark.slow
def test_the_command_measures_the_embedded_profile(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    photos, written, sheet = tmp_path / "photos", tmp_path / "figures.json", tmp_path / "s.png"
    photos.mkdir()
    with PIL.Image.open(ASTRONAUT) as picture:
        picture.convert("RGB").save(photos / "a.png")
        picture.convert("RGB").resize((60, 60)).save(photos / "too-small.png")
    options = ["upscale", "--data", photos, "--side", "400"]
    code, out, _ = evaluate(*options, "--json", written, "--sheet", sheet)
    assert code == 0
    assert "1 of 2 pictures, shrunk by area; 1024² → 2048² px in " in out
    assert (tmp_path / "figures-chart.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(written.read_text())
    assert (report["profile"], report["largest_px"]) == ("tiny", 400)
    twice, fourfold = report["factors"]["2"], report["factors"]["4"]
    assert twice["upscaler"]["psnr_db"] > twice["Lanczos"]["psnr_db"] + 0.3
    assert twice["upscaler"]["ssim"] > twice["Lanczos"]["ssim"]
    assert twice["Lanczos"]["psnr_db"] > fourfold["Lanczos"]["psnr_db"] > 20
    assert report["seconds"] > 0
    with PIL.Image.open(sheet) as picture:
        assert picture.size == (6 * 196, 16 + 212)


@pytest.mark.slow
def test_what_cannot_be_measured_is_told_in_a_sentence(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    PIL.Image.new("RGB", (60, 60)).save(tmp_path / "small.png")
    code, _, err = evaluate("upscale", "--data", tmp_path)
    sentence = f"face-detailer: No picture in {tmp_path} has sides of 64 px or more.\n"
    assert (code, err.endswith(sentence)) == (1, True)
