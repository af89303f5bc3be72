"""Networks compiled by torch, for the few shapes that a profile works with."""

from typing import Literal

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock

CompileMode = Literal["off", "regional", "full"]

# How many rows the compiled decoder takes; others are padded.
DECODER_ROWS = (1, 2, 4)
# Graphs of one function: as many as there are shapes. torch's own limit of 8 is less than the sizes
# of a batch times those of a crop.
_MOST_GRAPHS = 64


def compile_networks(
    unet: UNet2DConditionModel,
    decoder: torch.nn.Module,
    mode: CompileMode,
    *,
    control: ControlNetModel | None = None,
    backend: str = "inductor",
) -> None:
    """Have the networks compile themselves for each shape that they are first called with.

    Args:
        unet: "regional": each kind of its repeated blocks, which takes a fraction of the time;
            "full": all of it, as one graph.
        decoder: of the VAE; "full": it too, as one graph.
        mode: "off" changes nothing.
        control: a ControlNet, compiled as the UNet is.
        backend: torch's name of what compiles the graphs.
    """
    if mode == "off":
        return
    limits = torch.compiler.config
    limits.recompile_limit = max(limits.recompile_limit, _MOST_GRAPHS)
    painters = (unet,) if control is None else (unet, control)
    for network in painters:
        if mode == "regional":
            # As diffusers' own method, which does not know a ControlNet's blocks.
            parts = [part for part in network.modules() if isinstance(part, BasicTransformerBlock)]
        else:
            parts = [network]
        for part in parts:
            part.compile(backend=backend, fullgraph=True, dynamic=False)
    if mode == "full":
        decoder.compile(backend=backend, fullgraph=True, dynamic=False)


def compile_no_more() -> None:
    """From now on, in this process, shapes that were not compiled run as they are: a request waits
    for no compiler.
    """
    torch.compiler.set_stance("eager_on_recompile")
