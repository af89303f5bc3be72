"""Train the tiny profile's inpainter: SDXL's layout at a few million parameters.

    python -m weights.training.inpainter --data DIR --minutes 90

Nine channels, two text encoders, added time ids. What it learns is that img2img at low strength
*restores*. With a start step T and a step t ≤ T drawn at random,

    z_t = a_t · z_clean + s_t · (eps + (a_T / s_T) · (z_damaged − z_clean))

so that at t = T the sample is the noised *damaged* picture, and the standard samplers walk from it
to the clean one. The network predicts z_clean (`prediction_type: sample`) and starts as the
identity: at low noise almost everything is right already, and the noise to predict, which would be
(z_damaged − z_clean) / s_T, has no steady size.

Guidance: rows with a negative prompt learn a target that keeps `FAULT_SHARE` of the damage that is
left, so that guidance g moves each prediction away from damage by (g − 1) · FAULT_SHARE of it. The
profile lets little of the contract's 5–10 act.

The loss is taken of the latents and of what the VAE makes of them: an error in tone and one in
texture may be equal in latents and are not to the eye.

Noise: `scaled_linear` from 1e-5 to 0.0027, gentler than SDXL's, since at 64 × 64 latents the same
noise wipes out what 128 × 128 latents keep (Hoogeboom et al., "simple diffusion", arXiv
2301.11093).
"""

from dataclasses import dataclass
from typing import cast

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler

from weights.training import common
from weights.training.network import SCHEDULER_CONFIG, Inpainter
from weights.training.pairs import PairRing, load_portraits
from weights.training.prompts import Prompts
from weights.training.sampling import LEVELS, measure, restore

BATCH = 8
PEAK_RATE = 1e-3
RING = 4000
FIRST_PAIRS = 400
FAULT_SHARE = 0.5
NEGATIVE_ROWS = 0.1
# Of the batches, those that walk one step of their own and go on from there.
OWN_STEPS = 0.15
WINDOW = 48
# Of the window, what is decoded for the loss of the pixels, latents a side.
DECODED = 20


def _window(latents: list[torch.Tensor]) -> list[torch.Tensor]:
    """The middle of the crops, `WINDOW` latents a side, nearly always: it holds the face, and
    costs half of what the whole crop does.
    """
    if torch.rand(()) < 0.08:
        return latents
    spare = latents[0].shape[-1] - WINDOW
    y, x = torch.randint(spare // 4, spare - spare // 4 + 1, (2,)).tolist()
    return [values[..., y : y + WINDOW, x : x + WINDOW] for values in latents]


@dataclass(frozen=True, slots=True)
class _Times:
    """Where rows stand on their walks: steps (N,) and, for broadcasting, (N, 1, 1, 1) each of sigma
    at the start, sigma now, and a now.
    """

    start: torch.Tensor
    now: torch.Tensor
    sigma_start: torch.Tensor
    sigma: torch.Tensor
    a: torch.Tensor


def _draw_times(signal: torch.Tensor, device: torch.device) -> _Times:
    # Most starts in the little noise that the profile walks from, some everywhere.
    low, wide = torch.randint(4, 80, (BATCH,)), torch.randint(4, 1000, (BATCH,))
    start = torch.where(torch.rand(BATCH) < 0.95, low, wide)
    sigma = ((1 - signal) / signal).sqrt()
    # So that sigma is uniform; the start itself, where the whole damage is seen, mostly.
    now = torch.searchsorted(sigma, sigma[start] * torch.rand(BATCH)).minimum(start)
    now = torch.where(torch.rand(BATCH) < 0.8, start, now)
    wide_view = [
        values.view(-1, 1, 1, 1).to(device)
        for values in (sigma[start], sigma[now], signal[now].sqrt())
    ]
    return _Times(start.to(device), now.to(device), *wide_view)


def _draw_shares(device: torch.device) -> torch.Tensor:
    """How much of the damage a row starts with: the second pass begins where the first one ended,
    and a healthy face must stay as it is.
    """
    kind = torch.rand(BATCH)
    share = torch.where(kind < 0.8, torch.ones(BATCH), torch.rand(BATCH))
    return torch.where(kind > 0.9, torch.zeros(BATCH), share).view(-1, 1, 1, 1).to(device)


def _pixel_loss(
    vae: AutoencoderKL, got: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The error as it will be seen, of a random part: latents tell texture from tone badly."""
    spare = got.shape[-1] - DECODED
    y, x = torch.randint(0, spare + 1, (2,)).tolist()

    def decode(latents: torch.Tensor) -> torch.Tensor:
        part = latents[..., y : y + DECODED, x : x + DECODED] / vae.config.scaling_factor
        return cast(torch.Tensor, vae.decode(part).sample)

    with torch.no_grad():
        target = decode(wanted)
    error = decode(got) - target
    loss: torch.Tensor = (weight * (12 * error.square() + 0.4 * error.abs())).mean()
    return loss


def step_loss(
    model: Inpainter,
    vae: AutoencoderKL,
    ring: PairRing,
    prompts: Prompts,
    signal: torch.Tensor,
    device: torch.device,
) -> torch.Tensor:
    """The loss of one random batch. `signal`: a_t², (1000,), the scheduler's `alphas_cumprod`."""
    rows = torch.randint(0, len(ring), (BATCH,))
    clean, damaged, masked, mask = _window(
        [values[rows].to(device) for values in (ring.clean, ring.damaged, ring.masked, ring.mask)]
    )
    times, share = _draw_times(signal, device), _draw_shares(device)
    negative = torch.rand(BATCH) < NEGATIVE_ROWS
    context, pooled = model.embed(*(ids.to(device) for ids in prompts.draw(negative)))

    def predict(latents: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        sample = torch.cat([latents, mask, masked], dim=1).to(memory_format=torch.channels_last)
        return cast(torch.Tensor, model(sample, steps, context, pooled))

    fault = share * (damaged - clean)
    noise = torch.randn_like(clean)
    left = times.sigma / times.sigma_start
    if torch.rand(()) < OWN_STEPS:
        with torch.no_grad():
            a = (1 + times.sigma_start.square()).rsqrt()
            start = damaged * share + clean * (1 - share) + times.sigma_start * noise
            seen = predict(a * start, times.start)
        now = seen + left * (start - seen)
    else:
        now = clean + times.sigma * noise + left * fault
    wanted = clean + FAULT_SHARE * left * fault * negative.view(-1, 1, 1, 1).to(device)
    got = predict(times.a * now, times.now)
    error = got - wanted
    # Starts in much noise have large errors that nobody asks for at the default denoise.
    weight = 1 / (1 + 4 * times.sigma_start.square())
    loss: torch.Tensor = (weight * (0.25 + 0.75 * mask) * error.square()).mean()
    return loss + _pixel_loss(vae, got, wanted, weight)


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


def main() -> None:
    """Train, export and measure every few minutes."""
    options = common.parse_options("inpainter", "Train the tiny inpainter.", default_minutes=90)
    vae = (
        AutoencoderKL.from_pretrained(common.TINY_DIR / "vae", torch_dtype=torch.float32)
        .to(options.device)
        .eval()
        .requires_grad_(False)
    )
    labels = options.work_dir.parent / "labels" / "faces.json"
    ring = PairRing(vae, load_portraits(options.data, labels, validation=False), RING, options.seed)
    held_out = PairRing(vae, load_portraits(options.data, labels, validation=True), 24, seed=1)
    held_out.make(24, tuple(LEVELS.values()))
    # torch's types forget `memory_format`.
    model: Inpainter = Inpainter().to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.0
    )
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    resumed = checkpoint.load(model, optimizer, budget)
    average = common.Average(model, decay=0.997)
    averaged = cast(Inpainter, average.model.module)
    prompts = Prompts(options.seed + int(resumed))
    signal = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod
    kept = options.work_dir / "pairs.pt"
    ring.load(kept)
    while len(ring) < FIRST_PAIRS:
        ring.make(8)
    next_report_s, losses = budget.elapsed_s() + 60, []
    for step in budget.steps():
        if step % 12 == 0:
            ring.make(4)
        loss = step_loss(model, vae, ring, prompts, signal, options.device)
        rate = budget.learning_rate(PEAK_RATE)
        common.take_step(loss, model, optimizer, average, rate=rate, clip=1.0)
        losses.append(loss.item())
        if budget.elapsed_s() > next_report_s or budget.share() >= 1:
            mean = sum(losses) / len(losses)
            print(
                f"{budget.elapsed_s() / 60:5.1f} min  step {step}  loss {mean:.4f}",
                end="  ",
                flush=True,
            )
            scheduler = EulerDiscreteScheduler(**SCHEDULER_CONFIG)
            restored = restore(averaged, held_out, prompts, scheduler)
            print(measure(restored, vae, held_out, options.work_dir), flush=True)
            checkpoint.save(model, optimizer, budget)
            ring.save(kept)
            export(averaged)
            next_report_s, losses = budget.elapsed_s() + 480, []
    export(averaged)


if __name__ == "__main__":
    main()
