"""Trains the profile's inpainter: SDXL's layout with a few million parameters.

    python -m training.inpainter --data DIR --minutes 160

Nine channels, two text encoders, additional time ids. It learns that one step of img2img at low
strength *restores*: `training/objective.py`. The network predicts the clean latents
(`prediction_type: sample`) and starts as the identity: at low noise almost everything is correct
already, and the noise to predict, (z_damaged − z_clean) / s_T, would have no stable scale.

Noise: `scaled_linear` from 1e-5 to 0.0027, weaker than SDXL's, because at 64 × 64 latents the same
noise destroys what 128 × 128 latents preserve (Hoogeboom et al., "simple diffusion", arXiv
2301.11093).
"""

import random
from typing import cast

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from training import common, workers
from training.deepen import fill_deeper
from training.eye import Eye
from training.network import SCHEDULER_CONFIG, Inpainter
from training.objective import step_loss
from training.optimizer import MuonWithAdamW
from training.pairs import WORK_PX, PairRing, Portrait, load_portraits
from training.prompts import Prompts
from training.sampling import LEVELS, measure, restore
from training.vae import FACTOR

BATCH = 8
PEAK_RATE = 2.5e-4
# Half of each step's pairs are new. With one new pair in four steps, each was seen 32 times and
# memorised: faces came 31 % closer there, and 11 % in held-out pairs.
PAIRS_A_STEP = 4
# Sides in latents. The middle of a crop contains the face and costs half as much as the whole.
WINDOW, WHOLE = 48, WORK_PX // FACTOR
WHOLE_SHARE = 0.08
# Side → how many pairs are kept, and how many are made before the first step.
RINGS = {WINDOW: (900, 160), WHOLE: (100, 16)}


def make_rings(vae: AutoencoderKL, portraits: list[Portrait], seed: int) -> dict[int, PairRing]:
    """The rings by side, filled with the pairs of the first steps."""
    rings = {}
    for side, (size, first) in RINGS.items():
        rings[side] = PairRing(vae, portraits, size, seed + side, side=side)
        while len(rings[side]) < first:
            rings[side].make(8)
    return rings


def export(model: Inpainter) -> None:
    """Write the weights in diffusers' layout, in fp16."""
    parts = {
        "unet": model.unet,
        "text_encoder": model.text_encoder,
        "text_encoder_2": model.text_encoder_2,
    }
    for name, part in parts.items():
        part.half().save_pretrained(common.TINY_DIR / name, safe_serialization=True)
        part.float()
    EulerDiscreteScheduler(**SCHEDULER_CONFIG).save_pretrained(common.TINY_DIR / "scheduler")


def load_exported(model: Inpainter) -> None:
    """Load what `export` wrote; a UNet with fewer layers is deepened."""
    text_encoders = {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    for name, kind in text_encoders.items():
        exported = kind.from_pretrained(common.TINY_DIR / name, torch_dtype=torch.float32)
        getattr(model, name).load_state_dict(exported.state_dict())
    unet = UNet2DConditionModel.from_pretrained(common.TINY_DIR / "unet", torch_dtype=torch.float32)
    fill_deeper(model.unet, unet)


def main() -> None:
    """Train, export and measure every few minutes."""
    options = common.parse_options(
        "inpainter", "Train the tiny inpainter.", default_minutes=160, may_go_on=True
    )
    worker = workers.join()
    vae = (
        AutoencoderKL.from_pretrained(common.TINY_DIR / "vae", torch_dtype=torch.float32)
        .to(options.device)
        .eval()
        .requires_grad_(False)
    )
    labels = options.work_dir.parent / "labels" / "faces.json"
    held_out = PairRing(vae, load_portraits(options.data, labels, validation=True), 24, seed=1)
    held_out.make(24, tuple(LEVELS.values()))
    # torch's type stubs lack `memory_format`.
    model: Inpainter = Inpainter().to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.from_exported:
        load_exported(model)
    optimizer = MuonWithAdamW(model, hidden=model.unet)
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    checkpoint.load(model, optimizer, budget)
    average = common.Average(model, decay=0.997)
    averaged = cast(Inpainter, average.model.module)
    # A resumed run must not draw the same pairs again.
    seed = options.seed + 100 * worker + int(budget.spent_s)
    torch.manual_seed(seed)
    prompts = Prompts(seed)
    signal = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod
    portraits = load_portraits(options.data, labels, validation=False)
    rings = make_rings(vae, portraits, seed)
    eye = Eye(vae)

    def report(losses: list[float]) -> None:
        mean = sum(losses) / max(1, len(losses))
        figures = measure(restore(averaged, held_out, prompts), eye, held_out, options.work_dir)
        print(f"{budget.elapsed_s() / 60:5.1f} min  loss {mean:.4f}  {figures}", flush=True)
        checkpoint.save(model, optimizer, budget)
        export(averaged)

    # The same sequence in all processes, or they would wait for each other.
    looks = random.Random(options.seed)
    next_report_s, losses = budget.elapsed_s() + 60, []
    for _ in budget.steps():
        ring = rings[WHOLE if looks.random() < WHOLE_SHARE else WINDOW]
        ring.make(PAIRS_A_STEP)
        loss = step_loss(model, eye, ring, prompts, signal, BATCH)
        rate = budget.learning_rate(PEAK_RATE)
        common.take_step(loss, model, optimizer, average, rate=rate, clip=1.0)
        losses.append(loss.item())
        if worker == 0 and budget.elapsed_s() > next_report_s:
            report(losses)
            next_report_s, losses = budget.elapsed_s() + 480, []
    if worker == 0:
        report(losses)


if __name__ == "__main__":
    main()
