"""One job's way from noise to picture: its latents, masks, schedule and guidance."""

from dataclasses import dataclass

import torch

from pipeline.models.batching import UNetRows
from pipeline.models.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What a prompt tells the UNet. `context`: (1, tokens, D). `pooled`: (1, P)."""

    context: torch.Tensor
    pooled: torch.Tensor


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a job repaints, all on the UNet's device and in its dtype.

    `latents`: (1, 4, h, w), the picture, scaled. `mask`: (1, 1, h, w) in [0, 1], see `InpaintJob`.
    `masked_latents`: (1, 4, h, w), the picture with the masked pixels greyed, for a UNet of nine
    channels; None for one of four. `noise`: (1, 4, h, w), standard normal. `vae_factor`: pixels of
    the picture a latent pixel's side.
    """

    latents: torch.Tensor
    mask: torch.Tensor
    masked_latents: torch.Tensor | None
    noise: torch.Tensor
    vae_factor: int = 8


class DenoiseWalk:
    """Differential diffusion of one job (Levin and Fried, arXiv 2306.00950).

    What the model paints in the i-th of n steps stays where the mask is at least (n − i) / n, and
    in the last step 1 / n: soft edges join late and so stay near the picture. Everywhere else the
    latents are the picture's own, at that step's noise. A UNet of nine channels knows the mask and
    needs no such help where it is hard: there the walk is that of diffusers' inpainting pipeline.
    """

    def __init__(
        self,
        canvas: Canvas,
        schedule: Schedule,
        prompt: Conditioning,
        negative: Conditioning,
        guidance_scale: float,
        *,
        pure_noise: bool,
    ) -> None:
        """`pure_noise`: start from noise alone, as diffusers does at strength 1."""
        self._canvas = canvas
        self._scheduler = schedule.scheduler
        self._timesteps = schedule.timesteps
        self._guidance_scale = guidance_scale
        self._index = 0
        parts = [negative, prompt] if guidance_scale > 1 else [prompt]
        self._context = torch.cat([part.context for part in parts])
        self._pooled = torch.cat([part.pooled for part in parts])
        self._size = torch.tensor([float(self.side * canvas.vae_factor)] * 2)
        soft = (canvas.mask > 0) & (canvas.mask < 1)
        self._blends = canvas.masked_latents is None or bool(soft.any())
        self.latents = self._noised(0)
        if pure_noise:
            self.latents = canvas.noise * self._scheduler.init_noise_sigma

    @property
    def side(self) -> int:
        """Latent pixels a side."""
        return self._canvas.latents.shape[-1]

    @property
    def row_count(self) -> int:
        """Two rows where guidance compares two prompts, else one."""
        return len(self._context)

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self._index == len(self._timesteps)

    def rows(self) -> UNetRows:
        """The negative prompt's row, then the prompt's."""
        canvas, timestep = self._canvas, self._timesteps[self._index]
        sample = self._scheduler.scale_model_input(self.latents, timestep)
        if canvas.masked_latents is not None:
            paintable = (canvas.mask > 0).to(sample.dtype)
            sample = torch.cat([sample, paintable, canvas.masked_latents], dim=1)
        count = self.row_count
        none = torch.zeros(2)
        time_ids = torch.cat([self._size, none, self._size])
        return UNetRows(
            sample=sample.to(self._context.dtype).expand(count, -1, -1, -1),
            timestep=timestep.float().expand(count).to(sample.device),
            context=self._context,
            pooled=self._pooled,
            time_ids=time_ids.to(self._context).expand(count, -1),
        )

    def advance(self, predicted: torch.Tensor) -> None:
        """Guide, step, and put the picture back where the model may not paint yet."""
        predicted = predicted.to(self.latents.dtype)
        if self.row_count == 2:
            unwanted, wanted = predicted.chunk(2)
            predicted = unwanted + self._guidance_scale * (wanted - unwanted)
        timestep = self._timesteps[self._index]
        self.latents = self._scheduler.step(predicted, timestep, self.latents).prev_sample
        self._index += 1
        if self._blends:
            steps = len(self._timesteps)
            paints = self._canvas.mask >= (steps - min(self._index, steps - 1)) / steps
            kept = self._canvas.latents if self.done else self._noised(self._index)
            self.latents = torch.where(paints, self.latents, kept)

    def _noised(self, index: int) -> torch.Tensor:
        """The picture's latents with the noise of step `index`."""
        canvas, timestep = self._canvas, self._timesteps[index : index + 1]
        noised: torch.Tensor = self._scheduler.add_noise(canvas.latents, canvas.noise, timestep)
        return noised
