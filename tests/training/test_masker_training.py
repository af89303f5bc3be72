"""What the masker learns from, and that it is trained as the pipeline runs it."""

import cv2
import numpy as np
import pytest
import torch

from training import masker
from training.crops import Cutter, Face, cut
from training.labelled import Pixels


@pytest.fixture(scope="module")
def face() -> Face:
    """A bright face on a dark ground, off the middle."""
    rgb = np.full((300, 240, 3), 30, np.uint8)
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    oval = np.stack([110 + 50 * np.cos(angles), 160 + 70 * np.sin(angles)], axis=1)
    cv2.fillPoly(rgb, [np.round(oval).astype(np.int32)], (220, 200, 180))
    return Face(rgb, oval.astype(np.float32))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_crop_and_its_mask_belong_together_however_it_is_turned(face: Face) -> None:
    for degrees in (0, 25, -40):
        errors = np.array([0.05, -0.1, 0.1, 0.0], np.float32)
        example = cut(face, 192, factor=2.0, degrees=degrees, errors=errors)
        assert overlap(example.rgb[..., 0] > 120, example.mask > 0) > 0.95


def test_a_crop_is_centred_on_its_box_and_as_large_as_the_pipeline_cuts_it(face: Face) -> None:
    none = np.zeros(4, np.float32)
    exact = cut(face, 192, factor=2.0, degrees=0, errors=none)
    assert exact.box == pytest.approx([96 - 34.2, 48, 96 + 34.2, 144], abs=0.5)
    rows = np.flatnonzero(exact.mask.any(axis=1))
    assert (rows[0], rows[-1]) == pytest.approx((48, 144), abs=2)
    low = cut(face, 192, factor=2.0, degrees=0, errors=np.array([0, 0, 0, 0.25], np.float32))
    assert low.box[3] - low.box[1] == pytest.approx(96)
    assert (low.box[1] + low.box[3]) / 2 == pytest.approx(96)
    rows = np.flatnonzero(low.mask.any(axis=1))
    assert (rows[0], rows[-1]) == pytest.approx((48, 144 - 96 * 0.2), abs=2)


def test_what_is_masked_is_the_face_after_every_mirroring_and_damage(face: Face) -> None:
    dark: Pixels = np.full((300, 300, 3), 30, np.uint8)
    cutter = Cutter([face], [dark], 96, seed=0)
    examples = [cutter.draw() for _ in range(60)]
    empty = [example for example in examples if not example.mask.any()]
    assert 0 < len(empty) < 12
    for example in examples:
        if example.mask.sum() > 50:
            grey = cv2.GaussianBlur(example.rgb.mean(axis=2), (0, 0), 2)
            assert np.median(grey[example.mask > 0]) > np.percentile(grey, 10) + 10


def test_training_decodes_as_segment_anything_does() -> None:
    torch.manual_seed(0)
    model = masker.build_model().eval()
    side = model.image_encoder.img_size
    pictures = torch.rand(2, 3, side, side) * 255
    boxes = torch.tensor([[50.0, 50, 120, 130], [40, 60, 130, 150]])
    with torch.inference_mode():
        logits, quality = masker.decode(model, masker.encode(model, pictures), boxes)
        outputs = model(
            [
                {
                    "image": picture,
                    "original_size": (side, side),
                    "boxes": box[None],
                    "point_coords": (box[None, None, :2] + box[None, None, 2:]) / 2,
                    "point_labels": torch.ones((1, 1)),
                }
                for picture, box in zip(pictures, boxes, strict=True)
            ],
            multimask_output=False,
        )
    for got, score, want in zip(logits, quality, outputs, strict=True):
        torch.testing.assert_close(got[None], want["low_res_logits"], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(score, want["iou_predictions"][0, 0], atol=1e-5, rtol=1e-4)
