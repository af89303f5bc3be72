"""Pictures to scaled latents and back, by a VAE in batches that fit the memory."""

from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL

from pipeline.models.fitting import FittingBatches
from pipeline.models.memory import NetworkMemory

Part = Callable[[torch.Tensor], torch.Tensor]

# Pictures that the VAE codes at a time: its activations at 1024² are the peak of memory.
VAE_BATCH = 4
# Side of the VAE's tiles in the memory mode "low", in picture pixels; larger pictures are cut.
LOW_TILE_PX = 512


class LatentCoder:
    """A VAE's two directions. Safe from several threads."""

    def __init__(self, vae: AutoencoderKL, memory: NetworkMemory, fitting: FittingBatches) -> None:
        """`memory`: where the VAE is. `fitting`: what it remembers of the batches that fit."""
        self._vae = vae
        self._memory = memory
        self._fitting = fitting

    @property
    def factor(self) -> int:
        """Pixels of a picture a latent pixel's side: 8 in SDXL's own."""
        return _factor(self._vae)

    def encode(self, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """(1, 3, S, S) pictures → scaled latents (1, 4, s, s), float32; S / s is the factor."""
        latents: list[torch.Tensor] = []
        for batch in _batches(pictures):
            mean = self._run("vae encoder", torch.cat(batch), self._encode_part)
            latents.extend(torch.split(mean.float() * self._vae.config.scaling_factor, 1))
        return latents

    def decode(self, latents: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Scaled latents (1, 4, s, s) → (1, 3, S, S) pictures in about [−1, 1], on the CPU."""
        pictures: list[torch.Tensor] = []
        for batch in _batches(latents):
            scaled = torch.cat(batch) / self._vae.config.scaling_factor
            decoded = self._run("vae decoder", scaled, self._decode_part)
            pictures.extend(torch.split(decoded.float().cpu(), 1))
        return pictures

    def _run(self, kind: str, batch: torch.Tensor, call: Part) -> torch.Tensor:
        with self._memory.using(self._vae):
            return torch.cat(
                self._fitting.run(
                    (kind, batch.shape[-1]), len(batch), lambda part: call(batch[part])
                )
            )

    def _encode_part(self, pictures: torch.Tensor) -> torch.Tensor:
        coded = self._vae.encode(pictures.to(self._memory.device, self._vae.dtype))
        mean: torch.Tensor = coded.latent_dist.mean
        return mean

    def _decode_part(self, latents: torch.Tensor) -> torch.Tensor:
        pictures: torch.Tensor = self._vae.decode(latents.to(self._vae.dtype)).sample
        return pictures


def tile_slices(vae: AutoencoderKL) -> None:
    """One picture at a time, cut into tiles: the VAE's activations take a fraction."""
    vae.enable_slicing()
    vae.enable_tiling()
    vae.tile_sample_min_size = LOW_TILE_PX
    vae.tile_latent_min_size = LOW_TILE_PX // _factor(vae)


def _factor(vae: AutoencoderKL) -> int:
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def _batches(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Runs of neighbours of one shape, `VAE_BATCH` at most: crops of a pass may differ in size."""
    batches: list[list[torch.Tensor]] = []
    for tensor in tensors:
        fits = batches and len(batches[-1]) < VAE_BATCH and batches[-1][0].shape == tensor.shape
        if fits:
            batches[-1].append(tensor)
        else:
            batches.append([tensor])
    return batches
