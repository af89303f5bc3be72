"""Calls of the UNet, and of the ControlNet that shows it the picture: as many rows as fit."""

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from pipeline.config_inpainter import InpainterConfig
from pipeline.models.fitting import FittingBatches
from pipeline.models.sdxl.batch import UNetRows
from pipeline.models.sdxl.memory import NetworkMemory
from pipeline.report import Usage

# Those of the noisy picture; a UNet of nine channels sees the mask and what is around it in others,
# which no ControlNet knows.
_LATENT_CHANNELS = 4


class UNetCalls:
    """What the loop asks; for its thread alone."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        control: ControlNetModel | None,
        config: InpainterConfig,
        memory: NetworkMemory,
        fitting: FittingBatches,
    ) -> None:
        """`control`: None where `config` has none. `memory`: where both are."""
        self._unet = unet
        self._control = control
        self._scale = config.control.scale if config.control else 0.0
        self._sizes = config.batch_sizes
        self._memory = memory
        self._fitting = fitting
        self._usage = Usage()

    @property
    def usage(self) -> Usage:
        """What was done so far; from any thread."""
        return self._usage

    def __call__(self, rows: UNetRows) -> torch.Tensor:
        """The UNet's answer, (N, 4, h, w), in parts that fit the memory. Each is padded to one of
        the profile's batch sizes, so that compiled graphs see few shapes.
        """

        def predict(part: slice, size: int) -> torch.Tensor:
            return self._part(rows.part(part, size))[: part.stop - part.start]

        kind = ("unet", rows.sample.shape[-1])
        count = len(rows.sample)
        together = (self._unet,) if self._control is None else (self._unet, self._control)
        with self._memory.using(*together):
            parts = self._fitting.run(kind, count, predict, self._sizes)
        done = self._usage
        self._usage = Usage(
            done.calls + len(parts),
            done.rows + count,
            done.places + max(count, len(parts) * self._sizes[-1]),
        )
        return torch.cat(parts)

    def _part(self, rows: UNetRows) -> torch.Tensor:
        """One call."""
        sample = rows.sample.contiguous(memory_format=torch.channels_last)
        added = {"text_embeds": rows.pooled, "time_ids": rows.time_ids}
        down: tuple[torch.Tensor, ...] | None = None
        middle: torch.Tensor | None = None
        if self._control is not None:
            down, middle = self._control(
                sample[:, :_LATENT_CHANNELS],
                rows.timestep,
                encoder_hidden_states=rows.context,
                controlnet_cond=rows.control,
                conditioning_scale=self._scale,
                added_cond_kwargs=added,
                return_dict=False,
            )
        # As diffusers hands it to the processors of an IP-Adapter: a picture per row.
        heard = rows.context if rows.face is None else (rows.context, [rows.face[:, None]])
        predicted: torch.Tensor = self._unet(
            sample,
            rows.timestep,
            encoder_hidden_states=heard,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return predicted
