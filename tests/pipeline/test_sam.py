"""The masker: what it masks, when it says that it is unsure, and which networks it can build."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from segment_anything import sam_model_registry

import weights
from pipeline.config import SegmenterConfig
from pipeline.errors import Stopped, WeightsError
from pipeline.models.sam import BATCH, SamSegmenter, build_sam, load_segmenter
from pipeline.types import CropRegion, FaceBox, FaceCrop, Image

TINY = Path(weights.__file__).parent / "tiny"
ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"
CONFIG = SegmenterConfig("segmenter/config.json", "segmenter/model.safetensors", 0.5)
# The crop of astronaut.png that holds the face, and the face in it, by eye.
CROP_XY, CROP_PX = (116, 14), 220
FACE_IN_CROP = FaceBox(64, 56, 156, 164, 0.9)


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    return load_segmenter(TINY, CONFIG, "cpu")


def crop_of(rgb: NDArray[np.uint8], box: FaceBox, work_px: int) -> FaceCrop:
    """`rgb`, square, and a box in it, brought to `work_px`."""
    scale = work_px / rgb.shape[0]
    pixels = cv2.resize(rgb, (work_px, work_px), interpolation=cv2.INTER_AREA)
    moved = FaceBox(box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale, box.score)
    region = CropRegion((0.0, 0.0), float(work_px), work_px)
    return FaceCrop(region, Image(np.ascontiguousarray(pixels, dtype=np.uint8)), moved)


@pytest.fixture(scope="module")
def face_pixels() -> NDArray[np.uint8]:
    bgr = cv2.imread(str(ASTRONAUT), cv2.IMREAD_COLOR)
    assert bgr is not None
    x, y = CROP_XY
    return np.ascontiguousarray(bgr[y : y + CROP_PX, x : x + CROP_PX, ::-1], dtype=np.uint8)


@pytest.mark.parametrize("work_px", [192, 256, 512])
def test_masks_the_face_and_not_hair_or_background(
    segmenter: SamSegmenter, face_pixels: NDArray[np.uint8], work_px: int
) -> None:
    crop = crop_of(face_pixels, FACE_IN_CROP, work_px)
    (mask,) = segmenter.segment([crop])
    assert mask is not None
    assert mask.pixels.shape == (work_px, work_px)
    box = crop.box
    across, down = np.meshgrid(np.arange(work_px) + 0.5, np.arange(work_px) + 0.5)
    x, y = box.centre_xy
    radius = np.hypot((across - x) / (box.width_px / 2), (down - y) / (box.height_px / 2))
    assert mask.pixels[radius < 0.75].mean() > 0.97  # eyes, nose and mouth
    assert mask.pixels[radius > 1.3].mean() < 0.01


def test_a_batch_gives_each_crop_what_it_gets_alone(
    segmenter: SamSegmenter, face_pixels: NDArray[np.uint8]
) -> None:
    mirrored = np.ascontiguousarray(face_pixels[:, ::-1])
    turned_box = replace(FACE_IN_CROP, x0=CROP_PX - 156, x1=CROP_PX - 64)
    crops = [crop_of(face_pixels, FACE_IN_CROP, 256), crop_of(mirrored, turned_box, 192)]
    alone = [segmenter.segment([crop])[0] for crop in crops]
    with ThreadPoolExecutor(2) as pool:
        batches = list(pool.map(segmenter.segment, [crops, crops[::-1]]))
    for batch, wanted in zip(batches, (alone, alone[::-1]), strict=True):
        for got, want in zip(batch, wanted, strict=True):
            assert got is not None
            assert want is not None
            assert (got.pixels != want.pixels).mean() < 0.001
    assert segmenter.segment([]) == []


def test_between_batches_it_asks_whether_to_stop(
    segmenter: SamSegmenter, face_pixels: NDArray[np.uint8]
) -> None:
    crops = [crop_of(face_pixels, FACE_IN_CROP, 256)] * (BATCH + 1)
    answers = iter([False, True])
    with pytest.raises(Stopped):
        segmenter.segment(crops, lambda: next(answers))


def test_is_unsure_where_there_is_no_face(segmenter: SamSegmenter) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (220, 220, 3), dtype=np.uint8)
    flat = np.full_like(noise, 200)
    crops = [crop_of(pixels, FACE_IN_CROP, 256) for pixels in (noise, flat)]
    assert segmenter.segment(crops) == [None, None]


def test_is_unsure_below_the_wanted_quality(face_pixels: NDArray[np.uint8]) -> None:
    strict = load_segmenter(TINY, replace(CONFIG, min_quality=1.0), "cpu")
    assert strict.segment([crop_of(face_pixels, FACE_IN_CROP, 256)]) == [None]


@pytest.mark.parametrize(
    ("name", "embed_dim", "depth", "heads", "global_attention"),
    [
        ("vit_b", 768, 12, 12, [2, 5, 8, 11]),
        ("vit_l", 1024, 24, 16, [5, 11, 17, 23]),
        ("vit_h", 1280, 32, 16, [7, 15, 23, 31]),
    ],
)
def test_builds_the_official_networks_from_their_dimensions(
    name: str, embed_dim: int, depth: int, heads: int, global_attention: list[int]
) -> None:
    config = {
        "image_size": 1024,
        "patch_size": 16,
        "encoder_embed_dim": embed_dim,
        "encoder_depth": depth,
        "encoder_num_heads": heads,
        "encoder_global_attn_indexes": global_attention,
        "encoder_window_size": 14,
        "prompt_embed_dim": 256,
        "mask_in_chans": 16,
        "decoder_depth": 2,
        "decoder_mlp_dim": 2048,
        "decoder_num_heads": 8,
        "iou_head_hidden_dim": 256,
        "pixel_mean": [123.675, 116.28, 103.53],
        "pixel_std": [58.395, 57.12, 57.375],
    }
    with torch.device("meta"):
        ours, official = build_sam(config), sam_model_registry[name]()
    assert str(ours) == str(official)
    shapes = [
        {key: value.shape for key, value in model.state_dict().items()}
        for model in (ours, official)
    ]
    assert shapes[0] == shapes[1]


def test_missing_and_unfit_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing"):
        load_segmenter(tmp_path, CONFIG, "cpu")
    (tmp_path / "segmenter").mkdir()
    (tmp_path / CONFIG.config).write_bytes((TINY / CONFIG.config).read_bytes())
    state = load_file(TINY / CONFIG.weights)
    state.pop("mask_decoder.iou_token.weight")
    save_file(state, tmp_path / CONFIG.weights)
    with pytest.raises(WeightsError, match=r"iou_token"):
        load_segmenter(tmp_path, CONFIG, "cpu")
