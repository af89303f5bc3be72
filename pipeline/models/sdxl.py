"""Repainting by SDXL-layout networks: diffusers' UNet, VAE and text encoders under a loop of ours.

diffusers' own pipeline makes masks hard, takes one strength per call and one crop per picture; the
walk, the schedule and the batching beside this file do not.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline.config import InpainterConfig
from pipeline.errors import WeightsError
from pipeline.models.batching import DenoiseLoop, UNetRows
from pipeline.models.schedule import make_schedule
from pipeline.models.walk import Canvas, Conditioning, DenoiseWalk
from pipeline.stages import OnStep, ShouldStop
from pipeline.types import Image, InpaintJob

# Pictures that the VAE codes at a time: its activations at 1024² are the peak of memory.
VAE_BATCH = 4
PROMPT_CACHE = 256


class TextEncoders:
    """SDXL's two text encoders and their tokenizers; remembers the latest prompts."""

    def __init__(self, tokenizers: Sequence[Any], encoders: Sequence[Any]) -> None:
        self._tokenizers = tuple(tokenizers)
        self._encoders = tuple(encoders)
        self._cache: OrderedDict[str, Conditioning] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, prompt: str) -> Conditioning:
        """The prompt's first 77 tokens, as SDXL sees them."""
        # Held while encoding: tokenizers keep their padding and truncation as state.
        with self._lock:
            if prompt not in self._cache:
                self._cache[prompt] = self._encode(prompt)
                if len(self._cache) > PROMPT_CACHE:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(prompt)
            return self._cache[prompt]

    def _encode(self, prompt: str) -> Conditioning:
        hidden = []
        for tokenizer, encoder in zip(self._tokenizers, self._encoders, strict=True):
            tokens = tokenizer(
                prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
            )
            output = encoder(tokens.input_ids.to(encoder.device), output_hidden_states=True)
            # The last but one layer, and the pooled output of the second encoder: SDXL's choice.
            hidden.append(output.hidden_states[-2])
        return Conditioning(torch.cat(hidden, dim=-1), output.text_embeds)


class SdxlInpainter:
    """Repaints masked crops. Threads that call it at a time share the UNet's calls."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: TextEncoders,
        scheduler_config: dict[str, Any],
        config: InpainterConfig,
    ) -> None:
        self._unet = unet
        self._vae = vae
        self._text = text
        self._scheduler_config = scheduler_config
        self._config = config
        self._sees_mask = unet.config.in_channels == 9
        self._loop = DenoiseLoop(
            self._predict, config.batch_sizes, shared=unet.device.type != "cpu"
        )

    @torch.inference_mode()
    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        """See `pipeline.stages.Inpainter`."""
        walks = [
            self._start(job, canvas) for job, canvas in zip(jobs, self._canvases(jobs), strict=True)
        ]
        self._loop.run(walks, on_step, should_stop)
        return self._decode([walk.latents for walk in walks])

    def _start(self, job: InpaintJob, canvas: Canvas) -> DenoiseWalk:
        rule = self._config.step_rule
        schedule = make_schedule(
            self._scheduler_config, self._config.scheduler, job.steps, job.strength, rule
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
        masks = [torch.from_numpy(job.mask.pixels)[None, None] for job in distinct.values()]
        latents = self._encode(pixels)
        hidden: list[torch.Tensor | None] = [None] * len(distinct)
        if self._sees_mask:
            greyed = [picture * (mask == 0) for picture, mask in zip(pixels, masks, strict=True)]
            hidden[:] = self._encode(greyed)
        encoded = dict(zip(distinct, zip(masks, latents, hidden, strict=True), strict=True))
        canvases = []
        for key, job in zip(keys, jobs, strict=True):
            mask, picture, masked = encoded[key]
            # On the CPU and in single precision: the same noise on every device.
            noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(job.seed))
            small = torch.nn.functional.interpolate(mask, size=picture.shape[-2:])
            canvases.append(Canvas(picture, small.to(picture), masked, noise.to(picture)))
        return canvases

    def _predict(self, rows: UNetRows) -> torch.Tensor:
        predicted: torch.Tensor = self._unet(
            rows.sample.contiguous(memory_format=torch.channels_last),
            rows.timestep,
            encoder_hidden_states=rows.context,
            added_cond_kwargs={"text_embeds": rows.pooled, "time_ids": rows.time_ids},
            return_dict=False,
        )[0]
        return predicted

    def _encode(self, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """(1, 3, S, S) pictures → scaled latents (1, 4, S/8, S/8), float32."""
        latents: list[torch.Tensor] = []
        for batch in _batches(pictures):
            mean = self._vae.encode(
                torch.cat(batch).to(self._vae.device, self._vae.dtype)
            ).latent_dist.mean
            latents.extend((mean.float() * self._vae.config.scaling_factor).split(1))
        return latents

    def _decode(self, latents: Sequence[torch.Tensor]) -> list[Image | None]:
        pictures: list[Image | None] = []
        for batch in _batches(latents):
            scaled = torch.cat(batch) / self._vae.config.scaling_factor
            decoded = self._vae.decode(scaled.to(self._vae.dtype)).sample
            pictures.extend(_to_image(picture) for picture in decoded.float().cpu())
        return pictures


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


def _to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float32 in [−1, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def _to_image(decoded: torch.Tensor) -> Image | None:
    """(3, H, W) float32 in about [−1, 1] → picture; None where any value is not finite."""
    if not bool(torch.isfinite(decoded).all()):
        return None
    levels = ((decoded.clamp(-1, 1) + 1) * 127.5 + 0.5).permute(1, 2, 0)
    return Image(np.ascontiguousarray(levels.to(torch.uint8).numpy()))


def load_inpainter(folder: Path, config: InpainterConfig, device: str) -> SdxlInpainter:
    """Load a diffusers folder, in float16 on a GPU and in float32 on a CPU.

    Raises:
        WeightsError: a part is missing or cannot be read.
    """
    root = folder / config.folder
    dtype = torch.float32 if device == "cpu" else torch.float16

    def network(loader: Any, name: str) -> Any:
        options = {"local_files_only": True, "use_safetensors": True, "low_cpu_mem_usage": False}
        model = loader.from_pretrained(root / name, torch_dtype=dtype, **options)
        return model.eval().requires_grad_(False).to(device)

    try:
        scheduler_file = root / "scheduler" / "scheduler_config.json"
        scheduler_config = json.loads(scheduler_file.read_text(encoding="utf-8"))
        names = ("tokenizer", "tokenizer_2")
        tokenizers = [
            CLIPTokenizer.from_pretrained(root / name, local_files_only=True) for name in names
        ]
        encoders = [
            network(CLIPTextModel, "text_encoder"),
            network(CLIPTextModelWithProjection, "text_encoder_2"),
        ]
        unet = network(UNet2DConditionModel, "unet").to(memory_format=torch.channels_last)
        vae = network(AutoencoderKL, "vae").to(memory_format=torch.channels_last)
    # tokenizers raises bare Exceptions, and each other library its own.
    except Exception as error:
        raise WeightsError(f"the inpainter of {folder.name} cannot be loaded: {error}") from error
    return SdxlInpainter(unet, vae, TextEncoders(tokenizers, encoders), scheduler_config, config)
