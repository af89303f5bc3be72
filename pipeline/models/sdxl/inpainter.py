"""Repainting by SDXL-layout networks: diffusers' UNet, VAE and text encoders under a loop of ours.

diffusers' own pipeline makes masks hard, takes one strength per call and one crop per picture; the
trajectory, the sampler and the loop beside this file do not.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

from pipeline.config_inpainter import InpainterConfig
from pipeline.models.fitting import FittingBatches
from pipeline.models.sdxl.batch import UNetRows
from pipeline.models.sdxl.calls import UNetCalls
from pipeline.models.sdxl.canvases import Canvases
from pipeline.models.sdxl.compiling import (
    DECODER_ROWS,
    CompileMode,
    compile_networks,
    compile_no_more,
)
from pipeline.models.sdxl.ip_adapter import FaceReader, FaceTokens
from pipeline.models.sdxl.loop import DenoiseLoop
from pipeline.models.sdxl.memory import MemoryMode, NetworkMemory, choose_mode
from pipeline.models.sdxl.mirrored import both_ways, means, once_for_both
from pipeline.models.sdxl.networks import SdxlNetworks, lay_out, read_networks
from pipeline.models.sdxl.pixels import mask_of, to_image, to_tensor
from pipeline.models.sdxl.round_trip import finish
from pipeline.models.sdxl.schedule import NoiseModel, make_schedule, read_noise_model
from pipeline.models.sdxl.text import TextEncoders
from pipeline.models.sdxl.trajectory import Canvas, DenoiseTrajectory
from pipeline.models.sdxl.vae import LatentCoder, tile_slices
from pipeline.report import Usage
from pipeline.stages import OnStep, ShouldStop
from pipeline.types import Image, InpaintJob


class SdxlInpainter:
    """Repaints masked crops. Threads that call it at a time share the UNet's calls."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: TextEncoders,
        noise_model: NoiseModel,
        config: InpainterConfig,
        memory: NetworkMemory | None = None,
        *,
        control: ControlNetModel | None = None,
        face_tokens: FaceTokens | None = None,
        mode: MemoryMode = "resident",
        compiled: CompileMode = "off",
    ) -> None:
        """`memory`: where the networks are; None: they stay where they are. `control`: None where
        `config` has none. `face_tokens`: likewise, of an IP-Adapter. `mode`: how they share the
        device, never "auto". `compiled`: how `compile_networks` has prepared them.
        """
        self.mode = mode
        self.compiled = compiled
        self._memory = memory or NetworkMemory([], unet.device)
        fitting = FittingBatches()
        self._unet = unet
        self._control = control
        self._face_tokens = face_tokens
        self._vae = vae
        decoder_rows = DECODER_ROWS if compiled == "full" else ()
        self._coder = LatentCoder(vae, self._memory, fitting, decoder_rows)
        self._text = text
        self._noise_model = noise_model
        self._config = config
        self._canvases = Canvases(
            self._coder,
            sees_mask=unet.config.in_channels == 9,
            control=control,
            faces=None if face_tokens is None else FaceReader(face_tokens, self._memory, fitting),
        )
        self._predict = UNetCalls(unet, control, config, self._memory, fitting)
        self._loop = DenoiseLoop(
            self._predict, config.batch_sizes[-1], shared=self._memory.device.type != "cpu"
        )

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """What works inside, by name."""
        return {
            **self._text.networks,
            **({} if self._face_tokens is None else {"IP-Adapter": self._face_tokens}),
            "VAE encoder": self._vae.encoder,
            "UNet": self._unet,
            **({} if self._control is None else {"ControlNet": self._control}),
            "VAE decoder": self._vae.decoder,
        }

    def usage(self) -> Usage:
        """See `pipeline.stages.Inpainter`."""
        return replace(self._predict.usage, memory=self._memory.of_device())

    def unread(self, prompt: str) -> str:
        """See `pipeline.stages.Inpainter`."""
        return self._text.unread(prompt)

    @torch.inference_mode()
    def compile_for(self, sides_px: Sequence[int]) -> None:
        """Compile what `compile_networks` has prepared for crops of these sides and prompts of
        usual length; whatever else comes, is not compiled. Takes minutes.
        """
        text = self._text("")
        sampled = self._unet.config.in_channels
        face: torch.Tensor | None = None
        if self._face_tokens is not None:
            face = text.context.new_zeros(1, self._face_tokens.count, text.context.shape[-1])
        for side_px in sorted(set(sides_px)):
            side = side_px // self._coder.factor
            row = UNetRows(
                sample=text.context.new_zeros(1, sampled, side, side),
                timestep=text.context.new_zeros(1, dtype=torch.float32),
                context=text.context,
                pooled=text.pooled,
                time_ids=text.context.new_zeros(1, 6),
                control=self._canvases.shown(text.context.new_zeros(1, 3, side_px, side_px)),
                face=face,
            )
            for rows in self._config.batch_sizes:
                self._predict(row.part(slice(0, 1), rows))
            latents = torch.zeros(1, 4, side, side, device=self._memory.device)
            for rows in DECODER_ROWS:
                self._coder.decode([latents] * rows)
        compile_no_more()

    @torch.inference_mode()
    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        """See `pipeline.stages.Inpainter`."""
        if self._config.mirrored:
            on_both = once_for_both(on_step, len(jobs))
            painted = means(self._paint(both_ways(jobs), on_both, should_stop))
        else:
            painted = self._paint(jobs, on_step, should_stop)
        return [to_image(picture[0]) for picture in painted]

    def _paint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[torch.Tensor]:
        """(1, 3, S, S) per job, in about [−1, 1], on the CPU."""
        canvases = self._canvases(jobs, should_stop)
        trajectories = [
            self._start(job, canvas) for job, canvas in zip(jobs, canvases, strict=True)
        ]
        self._loop.run(trajectories, on_step, should_stop)
        decoded = self._coder.decode(
            [trajectory.latents for trajectory in trajectories], should_stop
        )
        if not self._config.residual:
            return decoded
        coded = self._round_trips(canvases, should_stop)
        return [
            finish(picture, trip, to_tensor(job.image.pixels), mask_of(job))
            for job, picture, trip in zip(jobs, decoded, coded, strict=True)
        ]

    def _round_trips(
        self, canvases: Sequence[Canvas], should_stop: ShouldStop
    ) -> list[torch.Tensor]:
        """Each crop, encoded and decoded."""
        distinct = {id(canvas.latents): canvas.latents for canvas in canvases}
        decoded = self._coder.decode(list(distinct.values()), should_stop)
        coded = dict(zip(distinct, decoded, strict=True))
        return [coded[id(canvas.latents)] for canvas in canvases]

    def _start(self, job: InpaintJob, canvas: Canvas) -> DenoiseTrajectory:
        rule = self._config.step_rule
        schedule = make_schedule(
            self._noise_model,
            self._config.scheduler,
            job.steps,
            job.strength,
            rule,
            self._config.spacing,
        )
        return DenoiseTrajectory(
            canvas,
            schedule,
            self._text(job.prompt),
            self._text(job.negative_prompt),
            1 + self._config.guidance * (job.guidance_scale - 1),
            told_px=max(job.image.width_px, self._config.told_px),
            pure_noise=rule == "diffusers" and job.strength == 1,
        )


def load_inpainter(
    folder: Path,
    config: InpainterConfig,
    device: str,
    mode: MemoryMode = "auto",
    compiled: CompileMode = "off",
) -> SdxlInpainter:
    """Load a profile's networks to a device.

    Raises:
        WeightsError: a part is missing or cannot be read.
    """
    networks = read_networks(folder, config, device)
    compile_networks(networks.unet, networks.vae.decoder, compiled, control=networks.control)
    return make_inpainter(networks, config, device, mode, compiled)


def make_inpainter(
    networks: SdxlNetworks,
    config: InpainterConfig,
    device: str,
    mode: MemoryMode = "auto",
    compiled: CompileMode = "off",
) -> SdxlInpainter:
    """Networks on the CPU, laid out and placed as the memory mode says. `compiled`: how
    `compile_networks` has prepared them.
    """
    lay_out(networks)
    place = torch.device(device)
    if mode == "auto":
        mode = choose_mode(networks.modules, place)
    if mode == "low":
        tile_slices(networks.vae)
    memory = NetworkMemory(networks.modules, place, one_at_a_time=mode != "resident")
    text = TextEncoders(networks.tokenizers, networks.encoders, memory, networks.words)
    noise_model = read_noise_model(networks.scheduler_config)
    return SdxlInpainter(
        networks.unet,
        networks.vae,
        text,
        noise_model,
        config,
        memory,
        control=networks.control,
        face_tokens=networks.face_tokens,
        mode=mode,
        compiled=compiled,
    )
