"""A decoder that does what the VAE's does, nearly, at a tenth of its cost: what the inpainter's
loss looks through most of the time.

It learns on while the inpainter does, from what this one makes of damaged faces: one that had only
seen clean and damaged faces explained 61 % of what the VAE shows of the inpainter's changes, since
the inpainter had learned to please it; one that saw the output too, 76 %.
"""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from weights.training import common
from weights.training.vae import FACTOR, decode

WIDTH = 64
# Latents a side that are compared at a step, and at their edges not.
SIDE, BORDER = 24, 2
RATE = 1e-3


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


class Imitator:
    """Teaches a `LightDecoder`, kept in `file`, what `vae` makes of latents."""

    def __init__(self, vae: AutoencoderKL, file: Path) -> None:
        self._vae, self.file = vae, file
        self.decoder: LightDecoder = LightDecoder().to(  # type: ignore[call-overload]
            vae.device, memory_format=torch.channels_last
        )
        self._optimizer = torch.optim.AdamW(self.decoder.parameters(), lr=RATE, weight_decay=0.0)
        self.resumed = file.exists()
        if self.resumed:
            state = torch.load(file, map_location=vae.device, weights_only=True)
            self.decoder.load_state_dict(state["decoder"])
            self._optimizer.load_state_dict(state["optimizer"])
        self.decoder.requires_grad_(False)

    def save(self) -> None:
        """Keep what was learned."""
        state = {
            "decoder": self.decoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        common.save(state, self.file)

    def learn(self, latents: torch.Tensor) -> None:
        """One step. `latents`: (N, 3, 4, h, w), scaled, of N faces: clean, damaged and restored.

        The error is that of the pixels and of their differences from the damaged ones', which are
        what the inpainter's loss is about.
        """
        square = common.draw_square(latents.shape[-1], SIDE)
        part = latents[square].detach().flatten(0, 1)
        inner = slice(FACTOR * BORDER, FACTOR * (SIDE - BORDER))
        with torch.no_grad():
            wanted = decode(self._vae, part)
        self.decoder.requires_grad_(True)
        wrong = (self.decoder(part) - wanted)[..., inner, inner].unflatten(0, (-1, 3))
        changes = wrong[:, [0, 2]] - wrong[:, [1]]
        self._optimizer.zero_grad()
        (wrong.square().mean() + changes.square().mean()).backward()
        self._optimizer.step()
        self.decoder.requires_grad_(False)
