"""What a profile's networks see of jobs: crops, masks and noise, encoded and on the device."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel

from pipeline.models.sdxl.ip_adapter import FaceReader
from pipeline.models.sdxl.pixels import mask_of, to_tensor
from pipeline.models.sdxl.trajectory import Canvas
from pipeline.models.sdxl.vae import LatentCoder
from pipeline.stages import ShouldStop, never
from pipeline.types import InpaintJob

_Maybe: TypeAlias = torch.Tensor | None
_Encoded: TypeAlias = tuple[torch.Tensor, torch.Tensor, _Maybe, _Maybe, _Maybe]
"""Latents, mask (on the CPU), masked latents, control and face, as in `Canvas`."""


class Canvases:
    """Makes them. What is None, the profile does not have."""

    def __init__(
        self,
        coder: LatentCoder,
        *,
        sees_mask: bool,
        control: ControlNetModel | None,
        faces: FaceReader | None,
    ) -> None:
        """`sees_mask`: whether the UNet has nine channels."""
        self._coder = coder
        self._sees_mask = sees_mask
        self._control = control
        self._faces = faces

    def __call__(self, jobs: Sequence[InpaintJob], should_stop: ShouldStop = never) -> list[Canvas]:
        """One per job, each with its own noise.

        Raises:
            Stopped: `should_stop` answered True.
        """
        # Samples of one picture share its crops and masks: those are encoded once.
        keys = [(id(job.image), id(job.mask)) for job in jobs]
        distinct = dict(zip(keys, jobs, strict=True))
        encoded = dict(
            zip(distinct, self._encode(list(distinct.values()), should_stop), strict=True)
        )
        canvases = []
        for key, job in zip(keys, jobs, strict=True):
            latents, mask, masked, control, face = encoded[key]
            # On the CPU and in single precision: the same noise on every device.
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(job.seed))
            soft = bool(((mask > 0) & (mask < 1)).any())
            canvases.append(
                Canvas(latents, mask.to(latents), masked, noise.to(latents), soft, control, face)
            )
        return canvases

    def _encode(self, jobs: Sequence[InpaintJob], should_stop: ShouldStop) -> list[_Encoded]:
        pixels = [to_tensor(job.image.pixels) for job in jobs]
        masks = [mask_of(job) for job in jobs]
        latents = self._coder.encode(pixels, should_stop)
        small = [
            F.interpolate(mask, size=picture.shape[-2:])
            for mask, picture in zip(masks, latents, strict=True)
        ]
        hidden: list[_Maybe] = [None] * len(jobs)
        if self._sees_mask:
            greyed = [picture * (mask == 0) for picture, mask in zip(pixels, masks, strict=True)]
            hidden[:] = self._coder.encode(greyed, should_stop)
        shown = map(self.shown, pixels)
        faces: list[_Maybe] = [None] * len(jobs)
        if self._faces is not None:
            faces[:] = self._faces(jobs, should_stop)
        return list(zip(latents, small, hidden, shown, faces, strict=True))

    def shown(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """What a ControlNet is shown of a crop, (1, 3, S, S) in [−1, 1]: itself, in [0, 1]; None
        where there is no ControlNet.
        """
        if self._control is None:
            return None
        return ((pixels + 1) / 2).to(self._coder.device, self._control.dtype)
