"""Measures the detector on held-out pictures."""

from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

# Before ultralytics, which it keeps off the network.
import pipeline.models.yolo  # noqa: F401

# isort: split
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.nms import non_max_suppression

from training import common
from training.composites import Composer
from training.labelled import (
    Pixels,
    boxes_of,
    load_objects,
    load_portraits,
    load_scenes,
)
from training.negatives import Negatives

THRESHOLD = 0.3

Example = tuple[Pixels, NDArray[np.float32]]


def to_input(pictures: list[Pixels], device: torch.device) -> torch.Tensor:
    """(N, 3, H, W) float32 in [0, 1], RGB, the input of ultralytics' models."""
    # Permuted, not copied: channels last like the model, which is faster on a CPU.
    return torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float().div_(255)


@torch.inference_mode()
def predict(
    model: DetectionModel,
    pictures: list[Pixels],
    device: torch.device,
    threshold: float = THRESHOLD,
) -> list[torch.Tensor]:
    """Per picture (N, 5): x0, y0, x1, y1, score; above the threshold, best first."""
    found: list[torch.Tensor] = []
    model.eval()
    for start in range(0, len(pictures), 8):
        output = model(to_input(pictures[start : start + 8], device))
        found += [
            rows[:, :5].cpu()
            for rows in non_max_suppression(output, threshold, 0.5, max_time_img=60)
        ]
    return found


def score(
    model: DetectionModel, examples: list[Example], device: torch.device
) -> tuple[float, float, int]:
    """Recall at IoU 0.5, mean IoU of the detected faces, and the number of false detections."""
    wanted = found_faces = wrong = 0
    overlaps: list[float] = []
    detections = predict(model, [rgb for rgb, _ in examples], device)
    for (_, boxes), rows in zip(examples, detections, strict=True):
        ious = torchvision.ops.box_iou(torch.from_numpy(boxes), rows[:, :4])
        best = ious.amax(dim=1) if len(rows) else torch.zeros(len(boxes))
        wanted += len(boxes)
        found_faces += int((best >= 0.5).sum())
        overlaps += best[best >= 0.5].tolist()
        wrong += int((ious.amax(dim=0) < 0.3).sum()) if len(boxes) else len(rows)
    return found_faces / max(1, wanted), float(np.mean(overlaps or [0])), wrong


def load_negatives(options: common.Options, seed: int, *, validation: bool) -> Negatives:
    """The pictures without a face, from one side of the split."""
    work_dir = options.work_dir.parent
    scenes = load_scenes(work_dir, validation=validation)
    return Negatives(scenes, load_objects(work_dir, validation=validation), seed)


def held_out(options: common.Options) -> dict[str, list[Example]]:
    """The three validation sets, drawn from a fixed seed: the same in every run."""
    portraits = load_portraits(
        options.data, options.work_dir.parent / "labels/faces.json", validation=True
    )
    negatives = load_negatives(options, seed=7, validation=True)
    alone = [
        (
            np.asarray(cv2.resize(p.rgb, (320, 320)), np.uint8),
            boxes_of([f * 1.25 for f in p.faces], 320, 320),
        )
        for p in portraits
    ]
    composer = Composer(portraits, negatives, seed=7)
    no_boxes = np.zeros((0, 4), np.float32)
    empty = [(composer.damage(composer.without_face(416)), no_boxes) for _ in range(100)]
    return {
        "portraits": alone,
        "composites": [composer.draw(416) for _ in range(60)],
        "empty": empty,
    }


def validate(
    model: DetectionModel, sets: dict[str, list[Example]], device: torch.device
) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    recall, overlap, extra = score(model, sets["portraits"], device)
    small_recall, _, small_extra = score(model, sets["composites"], device)
    _, _, wrong = score(model, sets["empty"], device)
    return {
        "portrait_recall": round(recall, 4),
        "portrait_mean_iou": round(overlap, 4),
        "portrait_extra": extra,
        "composite_recall": round(small_recall, 4),
        "composite_extra": small_extra,
        "false_positives_per_100_without_face": round(100 * wrong / len(sets["empty"]), 2),
    }
