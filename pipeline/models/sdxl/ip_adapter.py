"""An IP-Adapter that is fed with the face itself: what its image encoder sees in it is asked by
every cross-attention of the UNet, beside the text.

Ye et al., "IP-Adapter: text compatible image prompt adapter for text-to-image diffusion models",
arXiv 2308.06721; of the kind "plus", which reads the encoder's last hidden layer but one.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from pipeline.config_inpainter import IpAdapterConfig
from pipeline.errors import WeightsError
from pipeline.models.fitting import FittingBatches
from pipeline.models.sdxl.memory import NetworkMemory
from pipeline.stages import ShouldStop, check
from pipeline.types import InpaintJob

# Pictures that the encoder looks at in one call.
BATCH = 8

# The parts of a file of this kind, each tensor's name beginning with its part's.
_PARTS = ("image_proj", "ip_adapter")
# A tensor that a resampler has, and those of adapters for embeddings of face recognisers as well.
_LATENTS, _PROJECTION, _FOR_RECOGNISERS = "latents", "proj_in.weight", "perceiver_resampler."


class FaceTokens(torch.nn.Module):
    """The image encoder and the adapter's resampler: as one, they run once per crop."""

    def __init__(self, encoder: CLIPVisionModelWithProjection, resampler: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.resampler = resampler

    @property
    def count(self) -> int:
        """Of the tokens that it makes of a picture."""
        return int(self.resampler.get_parameter(_LATENTS).shape[1])

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, s, s), normalised → (N, tokens, D), D as wide as the UNet's texts."""
        seen = self.encoder(pictures, output_hidden_states=True).hidden_states[-2]
        tokens: torch.Tensor = self.resampler(seen)
        return tokens


class FaceReader:
    """What the UNet is told of the faces to repaint."""

    def __init__(self, network: FaceTokens, memory: NetworkMemory, fitting: FittingBatches) -> None:
        """`memory`: where the network is. `fitting`: what it remembers of the batches that fit."""
        self._network = network
        self._memory = memory
        self._fitting = fitting
        side = network.encoder.config.image_size
        self._prepare = CLIPImageProcessor(size={"shortest_edge": side}, crop_size=side)

    def __call__(self, jobs: Sequence[InpaintJob], should_stop: ShouldStop) -> list[torch.Tensor]:
        """Per job, (2, tokens, D): of the face under its mask, and of no picture at all, which is
        what the negative prompt's row gets.

        Raises:
            Stopped: `should_stop`, asked before each batch, answered True.
        """
        faces = [face_of(job) for job in jobs]
        # A face of very few pixels would pass for one with its channels first.
        pictures = self._prepare(
            images=faces, return_tensors="pt", input_data_format="channels_last"
        ).pixel_values
        told: list[torch.Tensor] = []
        with self._memory.using(self._network):
            (nothing,) = self._look(torch.zeros_like(pictures[:1]))
            for batch in pictures.split(BATCH):
                check(should_stop)
                call = partial(self._look_at, batch)
                for tokens in self._fitting.run("IP-Adapter", len(batch), call):
                    told += tokens
        return [torch.stack([tokens, nothing]) for tokens in told]

    def _look_at(self, batch: torch.Tensor, part: slice, _size: int) -> torch.Tensor:
        return self._look(batch[part])

    def _look(self, pictures: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self._network(
            pictures.to(self._memory.device, self._network.encoder.dtype)
        )
        return tokens


def face_of(job: InpaintJob) -> NDArray[np.uint8]:
    """The square of the crop, (s, s, 3), around what is mostly repainted; the adapter was trained
    on pictures that a face fills. The whole crop where that is nothing.
    """
    inside = job.mask.pixels >= 0.5
    if not inside.any():
        return job.image.pixels
    side_px = len(inside)
    (top, bottom), (left, right) = (
        (along[0], along[-1] + 1) for along in (np.flatnonzero(inside.any(axis=a)) for a in (1, 0))
    )
    wanted = max(bottom - top, right - left)
    y, x = (
        int(np.clip((low + high - wanted) // 2, 0, side_px - wanted))
        for low, high in ((top, bottom), (left, right))
    )
    return job.image.pixels[y : y + wanted, x : x + wanted]


def add_adapter(
    unet: UNet2DConditionModel, folder: Path, config: IpAdapterConfig, dtype: torch.dtype
) -> FaceTokens:
    """Read an adapter's files, and put its part that belongs there into the UNet.

    Raises:
        WeightsError: it is of another kind, or for other networks.
    """
    file = folder / config.file
    parts = _read_parts(file)
    sizes = CLIPVisionModelWithProjection.config_class.from_pretrained(
        folder / config.encoder, local_files_only=True
    )
    keys = [
        weights for name, weights in parts["ip_adapter"].items() if name.endswith("to_k_ip.weight")
    ]
    widths = {weights.shape[1] for weights in keys}
    if widths != {unet.config.cross_attention_dim} or len(keys) != _cross_attentions(unet):
        raise WeightsError(f"the IP-Adapter {file.name} is not made for this UNet")
    if parts["image_proj"][_PROJECTION].shape[1] != sizes.hidden_size:
        raise WeightsError(
            f"the IP-Adapter {file.name} is not made for the image encoder in {config.encoder}"
        )
    encoder = CLIPVisionModelWithProjection.from_pretrained(
        folder / config.encoder, torch_dtype=dtype, local_files_only=True, use_safetensors=True
    )
    unet._load_ip_adapter_weights(parts)  # noqa: SLF001 - the public way is a pipeline's
    (resampler,) = unet.encoder_hid_proj.image_projection_layers
    # diffusers runs it in every call of the UNet; the face stays the same.
    unet.encoder_hid_proj = None
    unet.register_to_config(encoder_hid_dim_type=None)
    for processor in unet.attn_processors.values():
        if isinstance(processor, IPAdapterAttnProcessor2_0):
            processor.scale = [config.scale]
    return FaceTokens(encoder, resampler.to(dtype))


def _read_parts(file: Path) -> dict[str, dict[str, torch.Tensor]]:
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in _PARTS}
    for name, tensor in load_file(file).items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise WeightsError(f"{file.name} is no IP-Adapter: it has {name}")
        parts[part][rest] = tensor
    projection: Any = parts["image_proj"]
    if any(name.startswith(_FOR_RECOGNISERS) for name in projection) or not (
        {_LATENTS, _PROJECTION} <= set(projection)
    ):
        raise WeightsError(f"{file.name} is no IP-Adapter of the kind plus, the one supported")
    return parts


def _cross_attentions(unet: UNet2DConditionModel) -> int:
    return sum(name.endswith("attn2.processor") for name in unet.attn_processors)
