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

from functools import partial
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler

from weights.training import common, workers
from weights.training.light_decoder import Imitator
from weights.training.network import SCHEDULER_CONFIG, Inpainter
from weights.training.objective import WINDOW, Eye, step_loss
from weights.training.optimizer import MuonWithAdamW
from weights.training.pairs import PairRing, load_portraits
from weights.training.prompts import Prompts
from weights.training.sampling import LEVELS, measure, restore
from weights.training.vae import decode

BATCH = 16
PEAK_RATE = 1e-3
RING = 4000
FIRST_PAIRS = 400
# Steps of the light decoder before the first of the inpainter, and faces a step that it sees.
FIRST_IMITATIONS = 400
IMITATED = 2
# Steps a pair that is made, on average.
STEPS_A_PAIR = 4
# For this last share of the time the loss looks through the VAE itself, at parts of this many
# latents a side: a step takes twice as long then.
VAE_SHARE = 0.45
VAE_SIDE, VAE_BORDER = 32, 3


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


def start_imitator(
    vae: AutoencoderKL, ring: PairRing, file: Path, steps: int = FIRST_IMITATIONS
) -> Imitator:
    """The light decoder with its teacher: from `file`, or after its first `steps`."""
    imitator = Imitator(vae, file)
    for _ in range(0 if imitator.resumed else steps):
        rows = torch.randint(0, len(ring), (IMITATED,))
        clean, damaged = ring.clean[rows], ring.damaged[rows]
        between = damaged + torch.rand(IMITATED, 1, 1, 1) * (clean - damaged)
        imitator.learn(torch.stack([clean, damaged, between], dim=1).to(vae.device))
    return imitator


def main() -> None:
    """Train, export and measure every few minutes."""
    options = common.parse_options("inpainter", "Train the tiny inpainter.", default_minutes=160)
    worker = workers.join()
    vae = (
        AutoencoderKL.from_pretrained(common.TINY_DIR / "vae", torch_dtype=torch.float32)
        .to(options.device)
        .eval()
        .requires_grad_(False)
    )
    labels = options.work_dir.parent / "labels" / "faces.json"
    seed = options.seed + 100 * worker
    ring = PairRing(vae, load_portraits(options.data, labels, validation=False), RING, seed)
    held_out = PairRing(vae, load_portraits(options.data, labels, validation=True), 24, seed=1)
    held_out.make(24, tuple(LEVELS.values()))
    # torch's types forget `memory_format`.
    model: Inpainter = Inpainter().to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = MuonWithAdamW(model, hidden=model.unet)
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    resumed = checkpoint.load(model, optimizer, budget)
    average = common.Average(model, decay=0.997)
    averaged = cast(Inpainter, average.model.module)
    torch.manual_seed(seed + int(resumed))
    prompts = Prompts(seed + int(resumed))
    signal = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod
    ring.load(options.work_dir / "pairs.pt")
    while len(ring) < FIRST_PAIRS:
        ring.make(8)
    imitator = start_imitator(vae, ring, options.work_dir / "decoder.pt")
    light = Eye(imitator.decoder, side=WINDOW)
    exact = Eye(partial(decode, vae), VAE_SIDE, VAE_BORDER)

    def report(losses: list[float]) -> None:
        mean = sum(losses) / max(1, len(losses))
        figures = measure(restore(averaged, held_out, prompts), vae, held_out, options.work_dir)
        print(f"{budget.elapsed_s() / 60:5.1f} min  loss {mean:.4f}  {figures}", flush=True)
        checkpoint.save(model, optimizer, budget)
        ring.save(options.work_dir / "pairs.pt")
        imitator.save()
        export(averaged)

    next_report_s, losses = budget.elapsed_s() + 60, []
    for step in budget.steps():
        if step % (4 * STEPS_A_PAIR) == 0:
            ring.make(4)
        eye = light if budget.share() < 1 - VAE_SHARE else exact
        loss, latents = step_loss(model, eye, ring, prompts, signal, BATCH)
        rate = budget.learning_rate(PEAK_RATE)
        common.take_step(loss, model, optimizer, average, rate=rate, clip=1.0)
        if eye is light:
            imitator.learn(latents[:IMITATED])
        losses.append(loss.item())
        if worker == 0 and budget.elapsed_s() > next_report_s:
            report(losses)
            next_report_s, losses = budget.elapsed_s() + 480, []
    if worker == 0:
        report(losses)


if __name__ == "__main__":
    main()
