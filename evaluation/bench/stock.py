"""The same repaints by diffusers' own pipeline, one face at a time: what ours is compared with."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline

from pipeline.config_inpainter import InpainterConfig
from pipeline.errors import Stopped
from pipeline.models.sdxl.networks import SdxlNetworks
from pipeline.report import Usage
from pipeline.stages import OnStep, ShouldStop
from pipeline.steps import plan_steps
from pipeline.types import Image, InpaintJob


class StockInpainter:
    """`StableDiffusionXLInpaintPipeline` as it comes; the same steps at the same strength."""

    def __init__(self, networks: SdxlNetworks, config: InpainterConfig, device: str) -> None:
        for network in networks.modules:
            network.eval().requires_grad_(requires_grad=False).to(device)
        self._config = config
        self._pipeline = StableDiffusionXLInpaintPipeline(
            networks.vae,
            *networks.encoders,
            *networks.tokenizers,
            networks.unet,
            EulerDiscreteScheduler.from_config(networks.scheduler_config),
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def usage(self) -> Usage:
        """See `pipeline.stages.Inpainter`; the bench has counters of its own."""
        return Usage()

    def unread(self, _prompt: str) -> str:
        """See `pipeline.stages.Inpainter`; the bench's own prompts are short."""
        return ""

    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        """See `pipeline.stages.Inpainter`."""
        return [
            self._inpaint(job, partial(on_step, index), should_stop)
            for index, job in enumerate(jobs)
        ]

    def _inpaint(
        self, job: InpaintJob, on_step: Callable[[], None], should_stop: ShouldStop
    ) -> Image:
        if should_stop():
            raise Stopped("the work was stopped")
        total, executed = plan_steps(job.steps, job.strength, self._config.step_rule)

        def after_step(_pipeline: Any, _step: int, _timestep: Any, tensors: Any) -> Any:
            on_step()
            return tensors

        answer = self._pipeline(
            prompt=job.prompt,
            negative_prompt=job.negative_prompt,
            image=PIL.Image.fromarray(job.image.pixels),
            mask_image=PIL.Image.fromarray((job.mask.pixels > 0).astype(np.uint8) * 255),
            height=job.image.height_px,
            width=job.image.width_px,
            num_inference_steps=total,
            # In the middle of those that come to as many steps: it rounds down.
            strength=min(1.0, (executed + 0.5) / total),
            guidance_scale=1 + self._config.guidance * (job.guidance_scale - 1),
            generator=torch.Generator().manual_seed(job.seed),
            callback_on_step_end=after_step,
            output_type="pil",
        )
        return Image(np.ascontiguousarray(answer.images[0]))
