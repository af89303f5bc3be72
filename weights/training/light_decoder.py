"""A decoder that does what the VAE's does, nearly, at a twentieth of its cost: what the
inpainter's loss looks through.
"""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from weights.training.vae import FACTOR

WIDTH = 64
BATCH = 8
CROP = 24
STEPS = 1500
PEAK_RATE = 2e-3


class LightDecoder(torch.nn.Module):
    """Four convolutions: scaled latents (N, 4, h, w) → pixels (N, 3, FACTOR·h, FACTOR·w), about
    [−1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (4, WIDTH, WIDTH, WIDTH, 3 * FACTOR**2)
        self.layers = torch.nn.ModuleList(
            torch.nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(widths)
        )

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.layers[0](latents)
        for layer in self.layers[1:-1]:
            x = x + layer(F.silu(x))
        return F.pixel_shuffle(self.layers[-1](F.silu(x)), FACTOR)


@torch.no_grad()
def _decode(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    scale = vae.config.scaling_factor
    return torch.cat([vae.decode(part.to(vae.device) / scale).sample for part in latents.split(8)])


def learn_decoder(vae: AutoencoderKL, latents: torch.Tensor, steps: int = STEPS) -> LightDecoder:
    """Imitate `vae` on scaled latents (N, 4, h, w) like those to be decoded; some minutes on one
    core.
    """
    decoder: LightDecoder = LightDecoder().to(vae.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    latents, pixels = latents.to(vae.device), _decode(vae, latents)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=PEAK_RATE, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(0, len(latents), (BATCH,))
        y, x = torch.randint(0, latents.shape[-1] - CROP + 1, (2,)).tolist()
        part = latents[rows, :, y : y + CROP, x : x + CROP]
        top, left, side = FACTOR * y, FACTOR * x, FACTOR * CROP
        wanted = pixels[rows, :, top : top + side, left : left + side]
        # The cut's border decodes otherwise than the middle of a picture does.
        inner = (..., slice(2 * FACTOR, -2 * FACTOR), slice(2 * FACTOR, -2 * FACTOR))
        loss = (decoder(part)[inner] - wanted[inner]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return decoder


def load_decoder(file: Path, vae: AutoencoderKL, latents: torch.Tensor) -> LightDecoder:
    """`learn_decoder`'s, frozen, from `file` once it was learned."""
    if not file.exists():
        torch.save(learn_decoder(vae, latents).state_dict(), file)
    decoder: LightDecoder = LightDecoder().to(vae.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decoder.load_state_dict(torch.load(file, weights_only=True))
    decoder.requires_grad_(False)
    return decoder
