"""Train the tiny profile's inpainter: SDXL's layout at a few million parameters.

    python -m weights.training.inpainter --data DIR --minutes 160

Nine channels, two text encoders, added time ids. What it learns is that one step of img2img at low
strength *restores*: `weights/training/objective.py`. The network predicts the clean latents
(`prediction_type: sample`) and starts as the identity: at low noise almost everything is right
already, and the noise to predict, which would be (z_damaged − z_clean) / s_T, has no steady size.

Noise: `scaled_linear` from 1e-5 to 0.0027, gentler than SDXL's, since at 64 × 64 latents the same
noise wipes out what 128 × 128 latents keep (Hoogeboom et al., "simple diffusion", arXiv
2301.11093).
"""

import random
from typing import cast

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from weights.training import common, workers
from weights.training.deepen import fill_deeper
from weights.training.eye import Eye
from weights.training.network import SCHEDULER_CONFIG, Inpainter
from weights.training.objective import step_loss
from weights.training.optimizer import MuonWithAdamW
from weights.training.pairs import WORK_PX, PairRing, Portrait, load_portraits
from weights.training.prompts import Prompts
from weights.training.sampling import LEVELS, measure, restore
from weights.training.vae import FACTOR

BATCH = 8
PEAK_RATE = 2.5e-4
# Half of what a step looks at is new. With one new pair in four steps, each was looked at 32 times
# and known by heart: faces came 31 % nearer there, and 11 % in held-out pairs.
PAIRS_A_STEP = 4
# In latents, a side. The middle of a crop holds the face and costs half of what the whole does.
WINDOW, WHOLE = 48, WORK_PX // FACTOR
WHOLE_SHARE = 0.08
# How many pairs are kept, and made before the first step.
RINGS = {WINDOW: (900, 160), WHOLE: (100, 16)}


def make_rings(vae: AutoencoderKL, portraits: list[Portrait], seed: int) -> dict[int, PairRing]:
    """By the side of what they show, with what the first steps look at."""
    rings = {}
    for side, (size, first) in RINGS.items():
        rings[side] = PairRing(vae, portraits, size, seed + side, side=side)
        while len(rings[side]) < first:
            rings[side].make(8)
    return rings


def export(model: Inpainter) -> None:
    """Write the diffusers layout, fp16."""
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
    """Take up what `export` wrote; a UNet with fewer layers is deepened."""
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
    # torch's types forget `memory_format`.
    model: Inpainter = Inpainter().to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.from_exported:
        load_exported(model)
    optimizer = MuonWithAdamW(model, hidden=model.unet)
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    checkpoint.load(model, optimizer, budget)
    average = common.Average(model, decay=0.997)
    averaged = cast(Inpainter, average.model.module)
    # A resumed run draws other pairs than the cut one did.
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

    # The same in all processes, or one would wait for the other.
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
