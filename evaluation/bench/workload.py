"""The made-up workload, and which calls of which networks it comes to."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evaluation.bench.counting import Calls
from pipeline.config import PassConfig, Profile
from pipeline.geometry import plan_crop
from pipeline.models import sam
from pipeline.models.esrgan import reach_px, tile_spans
from pipeline.models.sdxl.vae import batch_of
from pipeline.request import DetailRequest, Recipe
from pipeline.types import FaceBox, Image
from pipeline.views import coarse, tiles, wholes

# Distance of two faces' centres over their side: paint reaches 0.36 beyond a face.
APART = 1.75


@dataclass(frozen=True, slots=True)
class Workload:
    """`faces` of `face_px` a side, evenly in a picture of `size_px` a side; both passes."""

    faces: int = 4
    face_px: int = 384
    size_px: int = 1536
    steps: int = 20
    upscale: int = 2

    @property
    def smallest_px(self) -> int:
        """A picture's side from which on the faces are far enough apart to go in one round."""
        return math.ceil(math.ceil(math.sqrt(self.faces)) * self.face_px * APART)

    def boxes(self) -> list[FaceBox]:
        """Where the faces are."""
        columns = math.ceil(math.sqrt(self.faces))
        pitch, half = self.size_px / columns, self.face_px / 2
        centres = [
            (pitch * (i % columns + 0.5), pitch * (i // columns + 0.5)) for i in range(self.faces)
        ]
        return [FaceBox(x - half, y - half, x + half, y + half, 1.0) for x, y in centres]

    def request(self) -> DetailRequest:
        """Noise, to be repainted."""
        shape = (self.size_px, self.size_px, 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        recipe = Recipe(
            prompt="detailed face",
            denoise=0.4,
            num_inference_steps=self.steps,
            upscale=self.upscale,
            keep_healthy=False,
        )
        return DetailRequest(Image(pixels), recipe)


def planned_calls(
    profile: Profile, workload: Workload, networks: dict[str, torch.nn.Module]
) -> list[Calls]:
    """The calls that the workload makes, for a device that cannot do them.

    What the detector looks at twice depends on what it finds, and is left out.
    """
    image = workload.request().image
    config = profile.detector.input_px
    views = (*wholes(image, config), coarse(image, config), *tiles(image, config))
    seen = [view.picture for view in views]
    calls = [
        _call("detector", (1, 3, _padded(view.height_px), _padded(view.width_px))) for view in seen
    ]
    for name in ("text encoder 1", "text encoder 2"):
        tokens = torch.empty(1, 77, dtype=torch.long, device="meta")
        calls.append(Calls(name, (tokens,), {"output_hidden_states": True}, count=2))
    for config_of_pass in (profile.outline, profile.detail):
        calls += _pass_calls(profile, config_of_pass, workload, networks)
    return calls + _upscaler_calls(profile, workload, networks)


def _pass_calls(
    profile: Profile, config: PassConfig, workload: Workload, networks: dict[str, torch.nn.Module]
) -> list[Calls]:
    unet: Any = networks["UNet"]
    dtype = next(unet.parameters()).dtype
    work_px = plan_crop(workload.boxes()[0], config).work_px
    decoder: Any = networks["VAE decoder"]
    # All blocks of the decoder but the last one double the side.
    side = work_px >> (len(decoder.up_blocks) - 1)
    encoder: Any = networks["SAM image encoder"]
    crop = (3, encoder.img_size, encoder.img_size)
    calls = [
        _call("SAM image encoder", (size, *crop), count=count)
        for size, count in _batches(workload.faces, sam.BATCH)
    ]
    painted = workload.faces * (2 if profile.inpainter.mirrored else 1)
    pictures = painted * (2 if unet.config.in_channels == 9 else 1)
    for name, total, shape in (
        ("VAE encoder", pictures, (3, work_px, work_px)),
        ("VAE decoder", painted * (2 if profile.inpainter.residual else 1), (4, side, side)),
    ):
        calls += [
            _call(name, (size, *shape), dtype, count)
            for size, count in _batches(total, batch_of(work_px))
        ]
    menu = profile.inpainter.batch_sizes
    steps = max(1, round(workload.steps * profile.inpainter.steps))
    rows = painted * (2 if profile.inpainter.guidance > 0 else 1)
    for size, count in _batches(rows, menu[-1]):
        padded = next(known for known in menu if known >= size)
        calls.append(_unet_call(unet, padded, side, dtype, count * steps))
    return calls


def _unet_call(unet: Any, rows: int, side: int, dtype: torch.dtype, count: int) -> Calls:
    config = unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    options = {
        "encoder_hidden_states": empty(rows, 77, config.cross_attention_dim),
        "added_cond_kwargs": {"text_embeds": empty(rows, pooled), "time_ids": empty(rows, 6)},
        "return_dict": False,
    }
    sample = empty(rows, config.in_channels, side, side)
    timestep = torch.empty(rows, device="meta")
    return Calls("UNet", (sample, timestep), options, count)


def _upscaler_calls(
    profile: Profile, workload: Workload, networks: dict[str, torch.nn.Module]
) -> list[Calls]:
    name = f"upscaler ×{workload.upscale}"
    if name not in networks:
        return []
    dtype = next(networks[name].parameters()).dtype
    spans = [
        span.read_to - span.read_from
        for span in tile_spans(workload.size_px, profile.upscaler.tile_px, reach_px(networks[name]))
    ]
    return [_call(name, (1, 3, height, width), dtype) for height in spans for width in spans]


def _call(
    name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, count: int = 1
) -> Calls:
    return Calls(name, (torch.empty(*shape, dtype=dtype, device="meta"),), count=count)


def _batches(total: int, most: int) -> list[tuple[int, int]]:
    """(size, how many of it)."""
    whole, rest = divmod(total, most)
    return [(size, count) for size, count in ((most, whole), (rest, 1)) if size and count]


def _padded(length_px: int) -> int:
    """To the strides of YOLOv8."""
    return math.ceil(length_px / 32) * 32
