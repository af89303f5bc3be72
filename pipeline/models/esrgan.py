"""The upscaler: any super-resolution network that spandrel knows, read from safetensors."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

from pipeline.config import UpscalerConfig
from pipeline.errors import InvalidValue, WeightsError
from pipeline.stages import OnPixels
from pipeline.types import Image

Network: TypeAlias = ImageModelDescriptor[torch.nn.Module]

# Tiles start on this grid, so that networks that fold pixels into channels fold the same ones as in
# the whole picture.
GRID_PX = 8
# A deep network's nominal reach is hundreds of pixels; what lies further out moves nothing visible.
MAX_OVERLAP_PX = 32


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis, in input pixels: reads [read_from, read_to), keeps [start, stop)."""

    read_from: int
    start: int
    stop: int
    read_to: int


def tile_spans(length_px: int, tile_px: int, overlap_px: int) -> Iterator[Span]:
    """Cut an axis into stretches of at most `tile_px` (0: one), each read `overlap_px` wider."""
    step = max(tile_px // GRID_PX * GRID_PX, GRID_PX) if tile_px else length_px
    for start in range(0, length_px, step):
        stop = min(start + step, length_px)
        yield Span(max(start - overlap_px, 0), start, stop, min(stop + overlap_px, length_px))


class EsrganUpscaler:
    """Enlarges by 2 or 4; a pure function of the picture, callable from several threads at once."""

    def __init__(self, networks: Mapping[int, Network], tile_px: int) -> None:
        """`networks`: by factor, ready on their device; ×2 must be among them."""
        self._networks = dict(networks)
        self._tile_px = tile_px

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """What works inside, by name."""
        return {f"upscaler ×{factor}": found.model for factor, found in self._networks.items()}

    def pixels(self, image: Image, factor: int) -> int:
        """See `Upscaler`."""
        once = image.width_px * image.height_px
        return once if factor in self._networks else once + 4 * once

    def upscale(
        self, image: Image, factor: int, on_pixels: OnPixels = lambda _pixels: None
    ) -> Image:
        """The picture, `factor` times as wide and as high. `on_pixels`: see `Upscaler`.

        Raises:
            InvalidValue: the factor is neither 2 nor 4.
        """
        if factor not in (2, 4):
            raise InvalidValue(f"expected a factor of 2 or 4, got {factor}")
        if factor in self._networks:
            return self._enlarge(image, self._networks[factor], on_pixels)
        return self.upscale(self.upscale(image, 2, on_pixels), 2, on_pixels)

    def _enlarge(self, image: Image, network: Network, on_pixels: OnPixels) -> Image:
        scale = network.scale
        overlap_px = reach_px(network.model)
        height, width = image.height_px, image.width_px
        enlarged = np.empty((height * scale, width * scale, 3), np.uint8)
        for row in tile_spans(height, self._tile_px, overlap_px):
            for column in tile_spans(width, self._tile_px, overlap_px):
                read = image.pixels[row.read_from : row.read_to, column.read_from : column.read_to]
                tile = _run(network, read)
                top, left = (
                    (row.start - row.read_from) * scale,
                    (column.start - column.read_from) * scale,
                )
                rows = slice(row.start * scale, row.stop * scale)
                columns = slice(column.start * scale, column.stop * scale)
                kept = enlarged[rows, columns]
                kept[:] = tile[top : top + kept.shape[0], left : left + kept.shape[1]]
                on_pixels((row.stop - row.start) * (column.stop - column.start))
        return Image(enlarged)


def reach_px(model: torch.nn.Module) -> int:
    """How far an output pixel looks, in input pixels: the convolutions' reach together, capped."""
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    reach = sum(module.kernel_size[0] // 2 * module.dilation[0] for module in convolutions)
    return min(math.ceil(reach / GRID_PX) * GRID_PX, MAX_OVERLAP_PX)


@torch.inference_mode()
def _run(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 → (H·scale, W·scale, 3) uint8; spandrel pads and clamps."""
    # A copy: the picture's array may be read-only, which torch warns of.
    batch = torch.from_numpy(pixels.copy()).to(network.device).permute(2, 0, 1)[None]
    batch = (batch.to(network.dtype) / 255).contiguous(memory_format=torch.channels_last)
    output = (network(batch)[0].float() * 255).round().byte()
    enlarged: NDArray[np.uint8] = output.permute(1, 2, 0).contiguous().cpu().numpy()
    return enlarged


def _load_network(file: Path, factor: int, device: str) -> Network:
    try:
        return make_network(load_file(file), factor, device, file.name)
    except FileNotFoundError as error:
        raise WeightsError(f"upscaler weights are missing: {file.name}") from error
    except (SafetensorError, UnsupportedModelError, RuntimeError) as error:
        raise WeightsError(f"upscaler weights cannot be read: {file.name}: {error}") from error


def make_network(state: dict[str, torch.Tensor], factor: int, device: str, origin: str) -> Network:
    """A network of these weights, ready on its device; `origin` is for the message.

    Raises:
        WeightsError: it does not enlarge RGB pictures by `factor`.
        UnsupportedModelError, RuntimeError: spandrel makes nothing of them.
    """
    network = ModelLoader().load_from_state_dict(state)
    channels = (network.input_channels, network.output_channels)
    if (
        not isinstance(network, ImageModelDescriptor)
        or channels != (3, 3)
        or network.scale != factor
    ):
        raise WeightsError(
            f"expected an RGB upscaler by {factor} in {origin}, "
            f"got {network.architecture.name}, channels {channels}, scale {network.scale}"
        )
    half = device.startswith("cuda") and network.supports_half
    network.eval().to(torch.device(device), torch.float16 if half else torch.float32)
    network.model.requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    return network


def load_upscaler(folder: Path, config: UpscalerConfig, device: str) -> EsrganUpscaler:
    """Load the networks of a profile: fp16 on CUDA where the network stands it, else fp32.

    Args:
        folder: the profile's folder, which the paths in `config.weights` start from.
        config: the profile's upscaler part.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        WeightsError: a file is missing, is no network that spandrel knows, or has another scale
            than its factor.
    """
    networks = {
        factor: _load_network(folder / name, factor, device)
        for factor, name in config.weights.items()
    }
    return EsrganUpscaler(networks, config.tile_px)
