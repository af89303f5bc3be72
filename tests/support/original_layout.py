"""Networks of diffusers' layout as SDXL's single files store them: what finetunes come as."""

import re

import torch
from diffusers import UNet2DConditionModel

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers.": "transformer.resblocks.",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def single_file(
    unet: UNet2DConditionModel, first: torch.nn.Module, second: torch.nn.Module
) -> dict[str, torch.Tensor]:
    """UNet and both text encoders under the names of a checkpoint."""
    state = {
        f"model.diffusion_model.{_unet_name(name, unet)}": value
        for name, value in unet.state_dict().items()
    }
    for name, value in first.state_dict().items():
        inner = name.removeprefix("text_model.")
        state[f"conditioner.embedders.0.transformer.text_model.{inner}"] = value
    state |= {f"conditioner.embedders.1.model.{k}": v for k, v in _open_clip(second).items()}
    return {name: value.clone().contiguous() for name, value in state.items()}


def _unet_name(name: str, unet: UNet2DConditionModel) -> str:
    for ours, theirs in _OUTER.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    mid = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name)
    if mid:
        place = 1 if mid[1] == "attentions" else 2 * int(mid[2])
        return f"middle_block.{place}.{_inner(mid[3])}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert match, name
    direction, block, kind, layer, rest = match.groups()
    per_block = unet.config.layers_per_block + 1
    parts = {"resnets": int(layer), "attentions": int(layer), "downsamplers": per_block - 1}
    place = int(block) * per_block + parts.get(kind, per_block - 1)
    if direction == "down":
        part = {"resnets": "0", "attentions": "1", "downsamplers": "0.op"}[kind]
        rest = rest.removeprefix("conv.") if kind == "downsamplers" else _inner(rest)
        return f"input_blocks.{place + 1}.{part}.{rest}"
    attends = hasattr(unet.up_blocks[int(block)], "attentions")
    part = {"resnets": "0", "attentions": "1", "upsamplers": "2" if attends else "1"}[kind]
    return f"output_blocks.{place}.{part}.{_inner(rest)}"


def _inner(rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{_RESNET[head]}.{tail}" if head in _RESNET else rest


def _open_clip(encoder: torch.nn.Module) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    merged: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in encoder.state_dict().items():
        short = name.removeprefix("text_model.")
        if short == "text_projection.weight":
            state["text_projection"] = value.T
            continue
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", short)
        if match:
            key = f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"
            merged.setdefault(key, {})[match[2]] = value
            continue
        for ours, theirs in _OPEN_CLIP.items():
            short = short.replace(ours, theirs)
        state[short] = value
    joined = {key: torch.cat([parts[p] for p in "qkv"]) for key, parts in merged.items()}
    return state | joined
