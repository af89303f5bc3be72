"""One job's way from noise to picture: its latents, mask, schedule and guidance, on the device."""

from dataclasses import dataclass

import torch

from pipeline.models.sdxl.sampler import Latents, step_table
from pipeline.models.sdxl.schedule import Schedule
from pipeline.models.sdxl.text import Conditioning


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a job repaints, all on the UNet's device.

    `latents`: (1, 4, h, w), the picture, scaled. `mask`: (1, 1, h, w) in [0, 1], see `InpaintJob`.
    `masked_latents`: (1, 4, h, w), the picture with the masked pixels greyed, for a UNet of nine
    channels; None for one of four. `noise`: (1, 4, h, w), standard normal. `soft`: whether the mask
    has values between 0 and 1. `control`: (1, 3, S, S) in [0, 1], what a ControlNet is shown; None
    without one. `face`: (2, tokens, D), what an IP-Adapter tells of the face, and of no picture at
    all; None without one.
    """

    latents: torch.Tensor
    mask: torch.Tensor
    masked_latents: torch.Tensor | None
    noise: torch.Tensor
    soft: bool = True
    control: torch.Tensor | None = None
    face: torch.Tensor | None = None


class DenoiseTrajectory:
    """Differential diffusion of one job (Levin and Fried, arXiv 2306.00950).

    What the model paints in the i-th of n steps stays where the mask is at least (n − i + ½) / n:
    a pixel is painted in its mask's share of the steps, to the nearest whole one, and those are the
    last, so that soft edges stay near the picture. Everywhere else the latents are the picture's
    own, at that step's noise. A UNet of nine channels knows the mask and needs no such help where
    it is hard: there this is diffusers' inpainting pipeline.
    """

    def __init__(
        self,
        canvas: Canvas,
        schedule: Schedule,
        prompt: Conditioning,
        negative: Conditioning,
        guidance_scale: float,
        *,
        told_px: int,
        pure_noise: bool = False,
    ) -> None:
        """What every step needs is put on the device here, once.

        `told_px`: the side of the picture that the UNet is told, as its original and target size.
        `pure_noise`: start from noise alone, as diffusers does at strength 1.
        """
        self.canvas, self.prompt, self.negative = canvas, prompt, negative
        self.guided = guidance_scale > 1
        self.index = 0
        device = canvas.latents.device
        blends = canvas.masked_latents is None or canvas.soft
        self.table = step_table(schedule, guidance_scale, blends=blends).to(device)
        sizes = torch.tensor([[told_px, told_px, 0, 0, told_px, told_px]], dtype=torch.float32)
        self.time_ids = sizes.to(device, prompt.context.dtype)
        if pure_noise:
            start = canvas.noise * schedule.pure_sigma
        else:
            start = canvas.latents + canvas.noise * float(schedule.sigmas[0])
        self.state = Latents(start, torch.zeros_like(start))

    @property
    def side(self) -> int:
        """Latent pixels a side: trajectories of one side can share a call."""
        return self.canvas.latents.shape[-1]

    @property
    def row_count(self) -> int:
        """Rows that each of its steps needs: two where guidance compares two prompts, else one."""
        return 2 if self.guided else 1

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.index == len(self.table)

    @property
    def latents(self) -> torch.Tensor:
        """(1, 4, h, w), as they are now: picture + σ · noise; without noise once it is done."""
        return self.state.now

    def move(self, state: Latents) -> None:
        """A step is taken; `state` is after it."""
        self.state = state
        self.index += 1
