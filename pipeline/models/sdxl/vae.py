"""Pictures to scaled latents and back, by a VAE in batches that fit the memory."""

from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL

from pipeline.models.fitting import FittingBatches, padded
from pipeline.models.sdxl.memory import NetworkMemory
from pipeline.stages import ShouldStop, check, never

Part = Callable[[torch.Tensor], torch.Tensor]

# Pictures that the VAE codes at a time, and their pixels together: its activations at 1024² are the
# peak of memory, and two such pictures take as much as the masks' network.
VAE_BATCH = 4
VAE_PIXELS = 2 * 1024**2
# Side of the VAE's tiles in the memory mode "low", in picture pixels; larger pictures are cut.
LOW_TILE_PX = 512


class LatentCoder:
    """A VAE's two directions. Safe from several threads."""

    def __init__(
        self,
        vae: AutoencoderKL,
        memory: NetworkMemory,
        fitting: FittingBatches,
        decoder_rows: Sequence[int] = (),
    ) -> None:
        """`memory`: where the VAE is. `fitting`: what it remembers of the batches that fit.
        `decoder_rows`: how many rows the decoder takes, ascending; none: as many as come.
        """
        self._vae = vae
        self._memory = memory
        self._fitting = fitting
        self._decoder_rows = decoder_rows

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return self._memory.device

    @property
    def factor(self) -> int:
        """Pixels of a picture for one of its latents, per axis."""
        return _factor(self._vae)

    def encode(
        self, pictures: Sequence[torch.Tensor], should_stop: ShouldStop = never
    ) -> list[torch.Tensor]:
        """(1, 3, S, S) pictures → scaled latents (1, 4, s, s), float32.

        Raises:
            Stopped: `should_stop`, asked before each batch, answered True.
        """
        latents: list[torch.Tensor] = []
        for batch in _batches(pictures, 1):
            check(should_stop)
            mean = self._run("vae encoder", torch.cat(batch), self._encode_part)
            latents.extend(torch.split(mean.float() * self._vae.config.scaling_factor, 1))
        return latents

    def decode(
        self, latents: Sequence[torch.Tensor], should_stop: ShouldStop = never
    ) -> list[torch.Tensor]:
        """Scaled latents (1, 4, s, s) → (1, 3, S, S) pictures in about [−1, 1], on the CPU.

        Raises:
            Stopped: as from `encode`.
        """
        pictures: list[torch.Tensor] = []
        for batch in _batches(latents, self.factor):
            check(should_stop)
            scaled = torch.cat(batch) / self._vae.config.scaling_factor
            decoded = self._run("vae decoder", scaled, self._decode_part, self._decoder_rows)
            pictures.extend(torch.split(decoded.float().cpu(), 1))
        return pictures

    def _run(
        self, kind: str, batch: torch.Tensor, call: Part, menu: Sequence[int] = ()
    ) -> torch.Tensor:
        def fitting(part: slice, size: int) -> torch.Tensor:
            return call(padded(batch[part], size))[: part.stop - part.start]

        with self._memory.using(self._vae):
            key = (kind, batch.shape[-1])
            return torch.cat(self._fitting.run(key, len(batch), fitting, menu))

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
    """Pixels of a picture for one of its latents, per axis."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def batch_of(side_px: int) -> int:
    """How many pictures of this side are coded at a time."""
    return max(1, min(VAE_BATCH, VAE_PIXELS // side_px**2))


def _batches(tensors: Sequence[torch.Tensor], factor: int) -> list[list[torch.Tensor]]:
    """Runs of neighbours of one shape: crops of a pass may differ in size. `factor`: pixels of a
    picture for one of these.
    """
    batches: list[list[torch.Tensor]] = []
    for tensor in tensors:
        most = batch_of(tensor.shape[-1] * factor)
        fits = batches and len(batches[-1]) < most and batches[-1][0].shape == tensor.shape
        if fits:
            batches[-1].append(tensor)
        else:
            batches.append([tensor])
    return batches
