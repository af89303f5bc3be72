"""Trains the profile's masker: segment-anything's own classes with small dimensions.

    python -m training.masker --data DIR --minutes 60

Needs the outputs of `training/teachers.py` and `training/photos.py` in build/training. Target: the
teacher's face oval, forehead included, minus what an occluder covers. Prompt: a jittered box and
its centre. Loss: cross-entropy + Dice on the decoder's own grid, the same for a mask made without a
prompt, and the squared error of the predicted quality (0 if the crop contains no face). Validation:
mean IoU with the teacher's oval on held-out portraits.
"""

import datetime
import json
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from segment_anything.modeling import Sam

from pipeline.models.sam import build_sam
from training import common
from training.crops import Cutter, Example, Face, cut, load_faces
from training.labelled import load_scenes

FOLDER = common.TINY_DIR / "segmenter"
BATCH = 8
PEAK_RATE = 8e-4
# Errors of the boxes in validation: the standard deviation of each side, as a share of the box.
BOX_SPREAD = 0.05


def build_model() -> Sam:
    """The untrained network, as described by the profile's config.json."""
    sam = build_sam(json.loads((FOLDER / "config.json").read_text(encoding="utf-8")))
    torch.nn.init.trunc_normal_(sam.image_encoder.pos_embed, std=0.02)
    return sam


def to_tensors(
    examples: list[Example], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures (N, 3, S, S) in 0–255, masks (N, 1, S, S) in 0–1, boxes (N, 4)."""
    pictures = torch.from_numpy(np.stack([e.rgb for e in examples])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([e.mask for e in examples]))[:, None]
    boxes = torch.from_numpy(np.stack([e.box for e in examples]))
    return pictures.to(device).float(), masks.to(device).float(), boxes.to(device)


class Trained(torch.nn.Module):
    """The masker and an auxiliary head, used in training only, that masks without a prompt.

    With a good box, half of the mask can be guessed without looking at the picture. The head forces
    the encoder to look.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sam = build_model()
        channels = self.sam.image_encoder.neck[0].out_channels
        # The decoder's grid is four times as fine as the encoder's.
        self.head = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 16, kernel_size=1), torch.nn.PixelShuffle(4)
        )


def encode(model: Sam, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (N, 3, S, S) in 0–255 → (N, C, S/16, S/16)."""
    return torch.as_tensor(model.image_encoder(model.preprocess(pictures)))


def decode(
    model: Sam, embeddings: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, 1, S/4, S/4), predicted IoU (N,).

    The same as `Sam.forward` with one box and its centre, but batched and with gradients.
    """
    decoder = model.mask_decoder
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    labels = torch.ones(centres.shape[:2], device=boxes.device)
    sparse, dense = model.prompt_encoder((centres, labels), boxes, None)
    answers = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([answers.expand(len(boxes), -1, -1), sparse], dim=1)
    places = model.prompt_encoder.get_dense_pe().expand_as(embeddings)
    tokens, source = decoder.transformer(embeddings + dense, places, tokens)
    source = source.transpose(1, 2).reshape(embeddings.shape)
    kernels = decoder.output_hypernetworks_mlps[0](tokens[:, 1])
    logits = torch.einsum("nc,nchw->nhw", kernels, decoder.output_upscaling(source))
    return logits[:, None], decoder.iou_prediction_head(tokens[:, 0])[:, 0]


def mask_loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy + Dice of masks (N, 1, H, W)."""
    share = logits.sigmoid()
    overlap = 2 * (share * wanted).sum(dim=(2, 3)) + 1
    dice = 1 - overlap / (share.sum(dim=(2, 3)) + wanted.sum(dim=(2, 3)) + 1)
    return 2 * F.binary_cross_entropy_with_logits(logits, wanted) + dice.mean()


def step_loss(model: Trained, examples: list[Example], device: torch.device) -> torch.Tensor:
    """The training loss of one batch."""
    pictures, masks, boxes = to_tensors(examples, device)
    embeddings = encode(model.sam, pictures)
    logits, quality = decode(model.sam, embeddings, boxes)
    wanted = F.interpolate(masks, logits.shape[-2:], mode="area")
    with torch.no_grad():
        got, want = logits > 0, wanted > 0.5
        iou = (got & want).sum(dim=(1, 2, 3)) / (got | want).sum(dim=(1, 2, 3)).clamp_min(1)
    unprompted = mask_loss(model.head(embeddings), wanted)
    return mask_loss(logits, wanted) + unprompted + F.mse_loss(quality, iou)


@torch.inference_mode()
def validate(model: Sam, faces: list[Face], device: torch.device) -> dict[str, Any]:
    """Mean IoU with the teacher's ovals for inaccurate boxes, and that of a plain ellipse."""
    side_px = model.image_encoder.img_size
    rng = np.random.default_rng(11)
    ious, ellipses, misjudged = [], [], []
    for face in faces:
        errors = rng.normal(0, BOX_SPREAD, 4).astype(np.float32)
        example = cut(face, side_px, factor=1.5, degrees=0, errors=errors)
        pictures, _, boxes = to_tensors([example], device)
        logits, quality = decode(model, encode(model, pictures), boxes)
        full = F.interpolate(logits, (side_px, side_px), mode="bilinear")[0, 0].cpu().numpy() > 0
        box = example.box
        ellipse = np.zeros_like(example.mask)
        centre = (int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2))
        axes = (int((box[2] - box[0]) / 2), int((box[3] - box[1]) / 2))
        cv2.ellipse(ellipse, centre, axes, 0, 0, 360, 1, -1)
        wanted = example.mask > 0
        ious.append((full & wanted).sum() / (full | wanted).sum())
        ellipses.append(((ellipse > 0) & wanted).sum() / ((ellipse > 0) | wanted).sum())
        misjudged.append(abs(quality.item() - ious[-1]))
    return {
        "mean_iou": round(float(np.mean(ious)), 4),
        "worst_iou": round(float(np.min(ious)), 4),
        "ellipse_mean_iou": round(float(np.mean(ellipses)), 4),
        "quality_error": round(float(np.mean(misjudged)), 4),
        "faces": len(faces),
    }


def export(model: Sam, figures: dict[str, Any], minutes: float) -> None:
    """Write the averaged weights in fp16, and the figures to `metrics.json`."""
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, FOLDER / "model.safetensors")
    card = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "dataset": "SFHQ-T2I portraits, every 10th held out, MediaPipe's face oval as the target",
        "training_minutes": round(minutes, 1),
        **figures,
    }
    (FOLDER / "metrics.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train, validate every five minutes, export at the end."""
    options = common.parse_options("masker", "Train the tiny face masker.", default_minutes=60)
    labels = options.work_dir.parent / "labels/faces.json"
    model = Trained().to(options.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    checkpoint.load(model, optimizer, budget)
    average = common.Average(model, decay=0.997)
    # A resumed run must not draw the same crops again.
    seed = options.seed + int(budget.spent_s)
    scenes = load_scenes(options.work_dir.parent, validation=False)
    faces = load_faces(options.data, labels, validation=False)
    cutter = Cutter(faces, scenes, model.sam.image_encoder.img_size, seed)
    held_out = load_faces(options.data, labels, validation=True)
    next_report_s = budget.elapsed_s() + 300
    for step in budget.steps():
        loss = step_loss(model, [cutter.draw() for _ in range(BATCH)], options.device)
        rate = budget.learning_rate(PEAK_RATE)
        common.take_step(loss, model, optimizer, average, rate=rate, clip=1.0)
        if budget.elapsed_s() > next_report_s:
            figures = validate(average.model.module.sam, held_out, options.device)
            minutes = budget.elapsed_s() / 60
            print(f"{minutes:5.1f} min  step {step}  loss {loss.item():.4f}  {figures}", flush=True)
            checkpoint.save(model, optimizer, budget)
            next_report_s = budget.elapsed_s() + 300
    figures = validate(average.model.module.sam, held_out, options.device)
    export(average.model.module.sam, figures, options.minutes)
    print(f"done: {figures}", flush=True)


if __name__ == "__main__":
    main()
