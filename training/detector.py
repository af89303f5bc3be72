"""Trains the profile's detector: ultralytics' YOLOv8n, one class, starting from NudeNet's weights.

    python -m training.detector --data DIR --minutes 70

Needs the outputs of `training/teachers.py` and `training/photos.py` in build/training. Loss:
ultralytics' own `v8DetectionLoss` with its default gains. Three in ten pictures contain no face;
many of those show something that the network mistook for one. Validation on held-out portraits at
320 px (recall at IoU 0.5), on composites of held-out portraits in held-out scenes, and on held-out
scenes and objects without faces.
"""

import datetime
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

# Before ultralytics, which it keeps off the network.
from pipeline.models.yolo import build_detector

# isort: split
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

from training import common
from training.composites import Composer
from training.detector_figures import (
    THRESHOLD,
    Example,
    held_out,
    load_negatives,
    predict,
    to_input,
    validate,
)
from training.labelled import load_portraits
from training.negatives import Negatives

FOLDER = common.TINY_DIR / "detector"
NUDENET_FACES = [1, 12]
# Side in pixels → pictures in a batch. 128 is the size of the pipeline's second look.
BATCHES = {128: 32, 320: 12, 416: 8}
SIDES_PX = (128, 320, 320, 416)
PEAK_RATE = 4e-4
# For training that starts from the exported weights, which a higher rate would disrupt.
LATER_PEAK_RATE = 2e-4
GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
# Every so many steps, pictures without a face are searched for what the network mistakes for one;
# those mistakes are trained on.
MINED_EVERY = 3
MINED_PX = 512
MISTAKE_THRESHOLD = 0.05


def build_model() -> DetectionModel:
    """The untrained network, as described by the profile's YAML."""
    return build_detector(FOLDER / "yolov8-face.yaml")


def start_from_nudenet(model: DetectionModel, folded: dict[str, torch.Tensor]) -> None:
    """Load NudeNet's weights.

    Its batch norms are folded into the convolutions, so ours start as plain shifts with mean 0 and
    variance 1. They keep these statistics in training (`set_mode`), because batches are small and
    heterogeneous.
    """
    state = model.state_dict()
    for name, value in folded.items():
        if value.ndim and value.shape[0] == 18:
            value = value[NUDENET_FACES].mean(dim=0, keepdim=True)
        if name in state:
            state[name] = value
        else:
            norm = name.replace(".conv.bias", ".bn")
            state[f"{norm}.bias"] = value
            state[f"{norm}.weight"] = torch.ones_like(value)
            state[f"{norm}.running_mean"] = torch.zeros_like(value)
            state[f"{norm}.running_var"] = torch.ones_like(value) - model.get_submodule(norm).eps
    model.load_state_dict(state)


def set_mode(model: DetectionModel) -> None:
    """Switch to training mode, with fixed batch-norm statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()


def to_targets(examples: list[Example]) -> dict[str, torch.Tensor]:
    """The boxes as ultralytics' losses expect them: centre and size as shares of the picture."""
    rows, numbers = [], []
    for number, (rgb, boxes) in enumerate(examples):
        centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        rows.append(np.concatenate([centre, size], axis=1) / rgb.shape[0])
        numbers += [number] * len(boxes)
    bboxes = torch.from_numpy(np.concatenate(rows).astype(np.float32))
    return {
        "batch_idx": torch.tensor(numbers, dtype=torch.float32),
        "cls": torch.zeros(len(bboxes)),
        "bboxes": bboxes,
    }


def mine(model: DetectionModel, negatives: Negatives, device: torch.device) -> None:
    """Remember what the network mistakes for a face in four pictures without one."""
    kinds = (negatives.strewn, negatives.scene, negatives.strewn, negatives.scene)
    pictures = [negatives.turned(draw(MINED_PX)) for draw in kinds]
    for picture, rows in zip(
        pictures, predict(model, pictures, device, MISTAKE_THRESHOLD), strict=True
    ):
        for row in rows[:6]:
            negatives.remember(picture, row[:4].numpy())


def export(model: DetectionModel, figures: dict[str, Any], minutes: float) -> None:
    """Write the averaged weights in fp16, and the figures to `metrics.json`."""
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value.contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(state, FOLDER / "model.safetensors")
    card = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "dataset": "SFHQ-T2I portraits at 320 px, every 10th held out; composites of them and "
        "scenes without faces at 416 px",
        "threshold": THRESHOLD,
        "training_minutes": round(minutes, 1),
        **figures,
    }
    (FOLDER / "metrics.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train, validate every ten minutes, export at the end."""
    options = common.parse_options(
        "detector", "Train the tiny face detector.", default_minutes=70, may_go_on=True
    )
    labels = options.work_dir.parent / "labels"
    model = build_model()
    if options.from_exported:
        model.load_state_dict(load_file(FOLDER / "model.safetensors"))
        peak = LATER_PEAK_RATE
    else:
        start_from_nudenet(model, load_file(labels / "nudenet.safetensors"))
        peak = PEAK_RATE
    model.args = GAINS
    model.to(options.device, memory_format=torch.channels_last)
    criterion = v8DetectionLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=5e-4)
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    checkpoint.load(model, optimizer, budget)
    average = common.Average(model, decay=0.99)
    portraits = load_portraits(options.data, labels / "faces.json", validation=False)
    # A resumed run must not draw the same pictures again.
    seed = options.seed + int(budget.spent_s)
    negatives = load_negatives(options, seed, validation=False)
    composer = Composer(portraits, negatives, seed)
    sets = held_out(options)
    next_save_s, next_report_s = budget.elapsed_s() + 120, budget.elapsed_s() + 600
    for step in budget.steps():
        if step % MINED_EVERY == 0:
            mine(model, negatives, options.device)
        side_px = composer.rng.choice(SIDES_PX)
        examples = [composer.draw(side_px) for _ in range(BATCHES[side_px])]
        set_mode(model)
        losses, parts = criterion(
            model(to_input([rgb for rgb, _ in examples], options.device)), to_targets(examples)
        )
        rate = budget.learning_rate(peak)
        common.take_step(losses.sum(), model, optimizer, average, rate=rate, clip=10.0)
        if budget.elapsed_s() > next_report_s:
            shown = {name: round(float(value), 3) for name, value in parts.items()}
            figures = validate(average.model.module, sets, options.device)
            print(
                f"{budget.elapsed_s() / 60:5.1f} min  step {step}  {shown}  {figures}", flush=True
            )
            next_report_s = budget.elapsed_s() + 600
        if budget.elapsed_s() > next_save_s:
            checkpoint.save(model, optimizer, budget)
            next_save_s = budget.elapsed_s() + 120
    figures = validate(average.model.module, sets, options.device)
    export(average.model.module, figures, options.minutes)
    print(f"done: {figures}", flush=True)


if __name__ == "__main__":
    main()
