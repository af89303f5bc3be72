"""Adds layers to a UNet without changing its output."""

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel

# The layers that produce a block's residual, which is zero in a new block.
_LAST_STEPS = ("conv2", "proj_out")


@torch.no_grad()
def fill_deeper(deeper: UNet2DConditionModel, shallower: UNet2DConditionModel) -> None:
    """Initialise a UNet from one that has at most as many layers in each of its levels.

    Afterwards both compute the same; the new blocks' inner weights stay random. In the down path, a
    level's new layers follow its old ones and pass their input on, so that their skip connections
    all carry the same. In the up path, the first block has a different width than the others, so
    the new ones come second.

    Raises:
        RuntimeError: the shapes of the tensors do not match.
    """
    layers = (_layers(shallower), _layers(deeper))
    state, filled = shallower.state_dict(), deeper.state_dict()
    for name, value in filled.items():
        source = _source(name, layers)
        if source is not None:
            filled[name] = state[source].to(value.dtype)
            continue
        *_, module, kind = name.split(".")
        if module in _LAST_STEPS:
            value.zero_()
        elif module == "conv_shortcut":
            # Of the two inputs, pass on the one from below, not the skip connection.
            value.zero_()
            if kind == "weight":
                torch.nn.init.dirac_(value)
    deeper.load_state_dict(filled)


def _layers(unet: UNet2DConditionModel) -> Sequence[int]:
    """The number of layers of each level, from the finest to the coarsest."""
    layers = unet.config.layers_per_block
    return [layers] * len(unet.down_blocks) if isinstance(layers, int) else layers


def _source(name: str, layers: tuple[Sequence[int], Sequence[int]]) -> str | None:
    """The name of the shallower UNet's tensor that belongs here; None in a new block.

    `layers`: of the shallower UNet and of the deeper one.
    """
    side, *path = name.split(".")
    if side not in ("down_blocks", "up_blocks") or path[1] not in ("resnets", "attentions"):
        return name
    block, kind, place = int(path[0]), path[1], int(path[2])
    level = block if side == "down_blocks" else len(layers[0]) - 1 - block
    old, extra = layers[0][level], layers[1][level] - layers[0][level]
    if side == "down_blocks":
        return name if place < old else None
    if 1 <= place <= extra:
        return None
    before = place - extra if place > extra else place
    return ".".join([side, str(block), kind, str(before), *path[3:]])
