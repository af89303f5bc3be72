"""Repainting by SDXL-layout networks: diffusers' UNet, VAE and text encoders under a loop of ours.

diffusers' own pipeline makes masks hard, takes one strength per call and one crop per picture; the
walk, the schedule and the batching beside this file do not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray

from pipeline.config import InpainterConfig
from pipeline.models.batching import DenoiseLoop, UNetRows
from pipeline.models.fitting import FittingBatches
from pipeline.models.latents import LatentCoder, tile_slices
from pipeline.models.memory import MemoryMode, NetworkMemory, choose_mode
from pipeline.models.mirrored import both_ways, every_second, means
from pipeline.models.networks import SdxlNetworks, lay_out, precision_of, read_networks
from pipeline.models.round_trip import give_back
from pipeline.models.schedule import make_schedule
from pipeline.models.text import TextEncoders
from pipeline.models.walk import Canvas, DenoiseWalk
from pipeline.stages import OnStep, ShouldStop
from pipeline.types import Image, InpaintJob


class SdxlInpainter:
    """Repaints masked crops. Threads that call it at a time share the UNet's calls."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: TextEncoders,
        scheduler_config: dict[str, Any],
        config: InpainterConfig,
        memory: NetworkMemory | None = None,
    ) -> None:
        """`memory`: where the networks are; None: they stay where they are."""
        self._memory = memory or NetworkMemory([], unet.device)
        self._fitting = FittingBatches()
        self._unet = unet
        self._vae = vae
        self._coder = LatentCoder(vae, self._memory, self._fitting)
        self._text = text
        self._scheduler_config = scheduler_config
        self._config = config
        self._sees_mask = unet.config.in_channels == 9
        self._loop = DenoiseLoop(
            self._predict, config.batch_sizes, shared=self._memory.device.type != "cpu"
        )

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """What works inside, by name."""
        return {
            **self._text.networks,
            "VAE encoder": self._vae.encoder,
            "UNet": self._unet,
            "VAE decoder": self._vae.decoder,
        }

    @torch.inference_mode()
    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        """See `pipeline.stages.Inpainter`."""
        if self._config.mirrored:
            painted = means(self._paint(both_ways(jobs), every_second(on_step), should_stop))
        else:
            painted = self._paint(jobs, on_step, should_stop)
        return [_to_image(picture[0]) for picture in painted]

    def _paint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[torch.Tensor]:
        """(1, 3, S, S) per job, in about [−1, 1], on the CPU."""
        canvases = self._canvases(jobs)
        walks = [self._start(job, canvas) for job, canvas in zip(jobs, canvases, strict=True)]
        self._loop.run(walks, on_step, should_stop)
        decoded = self._coder.decode([walk.latents for walk in walks])
        if not self._config.residual:
            return decoded
        coded = self._round_trips(canvases)
        return [
            give_back(picture, trip, _to_tensor(job.image.pixels), _mask(job))
            for job, picture, trip in zip(jobs, decoded, coded, strict=True)
        ]

    def _round_trips(self, canvases: Sequence[Canvas]) -> list[torch.Tensor]:
        """Each crop, encoded and decoded."""
        distinct = {id(canvas.latents): canvas.latents for canvas in canvases}
        coded = dict(zip(distinct, self._coder.decode(list(distinct.values())), strict=True))
        return [coded[id(canvas.latents)] for canvas in canvases]

    def _start(self, job: InpaintJob, canvas: Canvas) -> DenoiseWalk:
        rule = self._config.step_rule
        schedule = make_schedule(
            self._scheduler_config,
            self._config.scheduler,
            job.steps,
            job.strength,
            rule,
            self._config.spacing,
        )
        return DenoiseWalk(
            canvas,
            schedule,
            self._text(job.prompt),
            self._text(job.negative_prompt),
            1 + self._config.guidance * (job.guidance_scale - 1),
            pure_noise=rule == "diffusers" and job.strength == 1,
        )

    def _canvases(self, jobs: Sequence[InpaintJob]) -> list[Canvas]:
        # Samples of one picture share its crops and masks: those are encoded once.
        keys = [(id(job.image), id(job.mask)) for job in jobs]
        distinct = dict(zip(keys, jobs, strict=True))
        pixels = [_to_tensor(job.image.pixels) for job in distinct.values()]
        masks = [_mask(job) for job in distinct.values()]
        latents = self._coder.encode(pixels)
        hidden: list[torch.Tensor | None] = [None] * len(distinct)
        if self._sees_mask:
            greyed = [picture * (mask == 0) for picture, mask in zip(pixels, masks, strict=True)]
            hidden[:] = self._coder.encode(greyed)
        encoded = dict(zip(distinct, zip(masks, latents, hidden, strict=True), strict=True))
        canvases = []
        for key, job in zip(keys, jobs, strict=True):
            mask, picture, masked = encoded[key]
            # On the CPU and in single precision: the same noise on every device.
            noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(job.seed))
            small = torch.nn.functional.interpolate(mask, size=picture.shape[-2:])
            canvases.append(
                Canvas(picture, small.to(picture), masked, noise.to(picture), self._coder.factor)
            )
        return canvases

    def _predict(self, rows: UNetRows) -> torch.Tensor:
        kind = ("unet", rows.sample.shape[-1])
        with self._memory.using(self._unet):
            return torch.cat(
                self._fitting.run(
                    kind, len(rows.sample), lambda part: self._predict_part(rows[part])
                )
            )

    def _predict_part(self, rows: UNetRows) -> torch.Tensor:
        predicted: torch.Tensor = self._unet(
            rows.sample.contiguous(memory_format=torch.channels_last),
            rows.timestep,
            encoder_hidden_states=rows.context,
            added_cond_kwargs={"text_embeds": rows.pooled, "time_ids": rows.time_ids},
            return_dict=False,
        )[0]
        return predicted


def _mask(job: InpaintJob) -> torch.Tensor:
    """(1, 1, S, S)."""
    return torch.from_numpy(job.mask.pixels)[None, None]


def _to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float32 in [−1, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def _to_image(decoded: torch.Tensor) -> Image | None:
    """(3, H, W) float32 in about [−1, 1] → picture; None where any value is not finite."""
    if not bool(torch.isfinite(decoded).all()):
        return None
    levels = ((decoded.clamp(-1, 1) + 1) * 127.5 + 0.5).permute(1, 2, 0)
    return Image(np.ascontiguousarray(levels.to(torch.uint8).numpy()))


def load_inpainter(
    folder: Path, config: InpainterConfig, device: str, mode: MemoryMode = "auto"
) -> SdxlInpainter:
    """Load a profile's networks to a device.

    Raises:
        WeightsError: a part is missing or cannot be read.
    """
    networks = read_networks(folder, config, precision_of(config, device))
    return make_inpainter(networks, config, device, mode)


def make_inpainter(
    networks: SdxlNetworks, config: InpainterConfig, device: str, mode: MemoryMode = "auto"
) -> SdxlInpainter:
    """Networks on the CPU, laid out and placed as the memory mode says."""
    lay_out(networks)
    place = torch.device(device)
    if mode == "auto":
        mode = choose_mode(networks.modules, place)
    if mode == "low":
        tile_slices(networks.vae)
    memory = NetworkMemory(networks.modules, place, one_at_a_time=mode != "resident")
    text = TextEncoders(networks.tokenizers, networks.encoders, memory)
    return SdxlInpainter(
        networks.unet, networks.vae, text, networks.scheduler_config, config, memory
    )
