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
from dataclasses import dataclass
from typing import cast

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from weights.training import common, workers
from weights.training.bfloat16 import BFloat16
from weights.training.deepen import fill_deeper
from weights.training.eye import Eye
from weights.training.network import SCHEDULER_CONFIG, Inpainter
from weights.training.objective import step_loss
from weights.training.optimizer import MuonWithAdamW
from weights.training.pairs import WORK_PX, PairRing, Portrait, load_portraits
from weights.training.prompts import Prompts
from weights.training.sampling import LEVELS, measure, restore
from weights.training.vae import FACTOR

PEAK_RATE = 3e-4
# A quarter of what a step looks at is new. With one new pair in four steps, each was looked at 32
# times and known by heart: faces came 31 % nearer there, and 11 % in held-out pairs.
PAIRS_A_STEP = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What a step looks at: crops, or windows in them, `side` latents wide. `batch`: of a step;
    `pairs` are kept, and `first_pairs` made before the first step.
    """

    side: int
    batch: int
    pairs: int
    first_pairs: int


# The middle of a crop holds the face and costs half of what the whole does, but group norms look at
# all that they are shown, and the product shows them the whole: so that is what the end is for.
WINDOW = Look(side=48, batch=16, pairs=900, first_pairs=160)
WHOLE = Look(side=WORK_PX // FACTOR, batch=9, pairs=400, first_pairs=48)
WHOLE_SHARE, LATE_WHOLE_SHARE = 0.1, 0.5
# Of the budget, when it is late.
LATE = 0.6


def draw_look(rng: random.Random, spent: float) -> Look:
    """What the next step looks at, the same in all processes. `spent`: of the budget, 0–1."""
    share = WHOLE_SHARE if spent < LATE else LATE_WHOLE_SHARE
    return WHOLE if rng.random() < share else WINDOW


def first_pairs(look: Look, vae: AutoencoderKL, portraits: list[Portrait], seed: int) -> PairRing:
    """A ring with what the first steps look at."""
    ring = PairRing(vae, portraits, look.pairs, seed, side=look.side)
    while len(ring) < look.first_pairs:
        ring.make(8)
    return ring


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
    BFloat16(options.device).prepare(model.unet)
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
    rings = {look: first_pairs(look, vae, portraits, seed + look.side) for look in (WINDOW, WHOLE)}
    eye = Eye(vae)

    def report(losses: list[float]) -> None:
        mean = sum(losses) / max(1, len(losses))
        figures = measure(restore(averaged, held_out, prompts), eye, held_out, options.work_dir)
        print(f"{budget.elapsed_s() / 60:5.1f} min  loss {mean:.4f}  {figures}", flush=True)
        checkpoint.save(model, optimizer, budget)
        export(averaged)

    looks = random.Random(options.seed)
    next_report_s, losses = budget.elapsed_s() + 60, []
    for _ in budget.steps():
        look = draw_look(looks, budget.share())
        rings[look].make(PAIRS_A_STEP)
        loss = step_loss(model, eye, rings[look], prompts, signal, look.batch)
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
