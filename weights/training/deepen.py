"""Give a UNet more layers without changing what it does."""

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel

# What they make is what a block adds to what it lets through: in a new one, nothing at first.
_LAST_STEPS = ("conv2", "proj_out")


@torch.no_grad()
def fill_deeper(deeper: UNet2DConditionModel, shallower: UNet2DConditionModel) -> None:
    """Fill a freshly made UNet from one that has at most as many layers in each of its levels: it
    then does what that one does, and the new blocks' inner weights are random.

    A level's new layers come after its old ones and hand on what they are given, so that their skip
    connections all carry the same. On the way up the first block is told by its width apart from
    the others, so the new ones come second.

    Raises:
        RuntimeError: some tensor has another shape.
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
            # Of what came up and the skip connection, the first passes.
            value.zero_()
            if kind == "weight":
                torch.nn.init.dirac_(value)
    deeper.load_state_dict(filled)


def _layers(unet: UNet2DConditionModel) -> Sequence[int]:
    """Of each level, from the finest to the coarsest."""
    layers = unet.config.layers_per_block
    return [layers] * len(unet.down_blocks) if isinstance(layers, int) else layers


def _source(name: str, layers: tuple[Sequence[int], Sequence[int]]) -> str | None:
    """The tensor of the shallower UNet that belongs here; None for a new block's. `layers`: of the
    shallower and of the deeper one.
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
