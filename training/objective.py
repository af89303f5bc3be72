"""The inpainter's objective: the loss of one batch.

With a start step T, the network sees the noised damaged face and predicts

    z_start + share(T) · (z_clean − z_start),    share(T) = min(1, T / FULL_STEP)

so that one step from T restores, and `denoise`, which sets T, decides how much of the damage is
removed. The second pass starts from the result of the first, so some batches start from the
network's own output.

Guidance: rows with a negative prompt learn a target that keeps `FAULT_SHARE` more of the damage, so
that guidance g moves each prediction away from the damage by (g − 1) · FAULT_SHARE of it. The
profile applies only a little of the contract's 5–10.

Most of the loss is computed on the picture that the product would return (`training/eye.py`). Rows
with little damage weigh more than their squared error, or hopeless rows would dominate.
"""

from typing import cast

import torch

from training.eye import Eye
from training.network import Inpainter
from training.pairs import PairRing
from training.prompts import Prompts

# The start of the outline pass at `denoise` 0.4 with the profile's settings, and the largest start,
# that of `denoise` 1.
FULL_STEP = 40
LAST_STEP = 100
FAULT_SHARE = 0.5
NEGATIVE_ROWS = 0.05
SECOND_PASS = 0.05
# For this share of the rows, T is drawn near FULL_STEP, which typical requests use.
USUAL_ROWS = 0.85
USUAL_STEPS = (30, 60)
# The mean of several possible faces is a good guess of the latents but decodes to a poor picture:
# with the error of the latents alone, that error fell by a quarter and PSNR hardly rose.
LATENT_WEIGHT = 0.15
# The mean square, in latents, of barely visible damage.
LIGHT_DAMAGE = 0.02


def _draw_steps(count: int) -> torch.Tensor:
    """T of each row, (count,)."""
    usual = torch.randint(*USUAL_STEPS, (count,))
    return torch.where(torch.rand(count) < USUAL_ROWS, usual, torch.randint(1, LAST_STEP, (count,)))


def step_loss(
    model: Inpainter,
    eye: Eye,
    ring: PairRing,
    prompts: Prompts,
    signal: torch.Tensor,
    batch: int,
) -> torch.Tensor:
    """The loss of a random batch. `signal`: a_t², (1000,), the scheduler's `alphas_cumprod`."""
    device = next(model.parameters()).device
    rows = torch.randint(0, len(ring), (batch,))
    clean, start, masked, mask = (
        values[rows].to(device) for values in (ring.clean, ring.damaged, ring.masked, ring.mask)
    )
    negative = torch.rand(batch) < NEGATIVE_ROWS
    context, pooled = model.embed(*(ids.to(device) for ids in prompts.draw(negative)))

    def predict(start: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        a2 = signal[steps].view(-1, 1, 1, 1).to(device)
        noised = a2.sqrt() * start + (1 - a2).sqrt() * torch.randn_like(start)
        sample = torch.cat([noised, mask, masked], dim=1).to(memory_format=torch.channels_last)
        return cast(torch.Tensor, model(sample, steps.to(device), context, pooled))

    again = torch.rand(()) < SECOND_PASS
    if again:
        with torch.no_grad():
            start = start + mask * (predict(start, _draw_steps(batch)) - start)
    steps = _draw_steps(batch)
    share = ((steps + 1) / FULL_STEP).clamp(max=1) * (1 - FAULT_SHARE * negative.float())
    share = share.view(-1, 1, 1, 1).to(device)
    got = predict(start, steps)
    size = (clean - start).square().mean(dim=(1, 2, 3), keepdim=True)
    weight = (0.25 + 0.75 * mask) * (size + LIGHT_DAMAGE).rsqrt()
    wanted = start + share * (clean - start)
    loss = LATENT_WEIGHT * (weight * (got - wanted).square()).mean()
    if again:
        # There is no picture that corresponds to such a start.
        return loss
    sight = ring.sight(rows).to(device).aimed(share)
    return loss + eye.error(got, sight, mask, weight)
