"""Which layer of SDXL a LoRA's key means: each trainer writes the layers' names in its own way."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel

# How keys begin, and whose layers follow: 0: the UNet; 1, 2: the text encoders. The longest counts.
_BEGINNINGS = {
    "unet.": 0,
    "lora_unet_": 0,
    "lycoris_": 0,
    "diffusion_model.": 0,
    "model.diffusion_model.": 0,
    "base_model.model.": 0,
    "unet.base_model.model.": 0,
    "text_encoder.": 1,
    "text_encoder.base_model.model.": 1,
    "lora_te_": 1,
    "lora_te1_": 1,
    "text_encoder_2.": 2,
    "text_encoder_2.base_model.model.": 2,
    "lora_te2_": 2,
}
# How keys end: kohya's, PEFT's and diffusers' spelling of the same. What only LyCORIS has goes by
# its own name.
_ENDINGS = {
    "down": r"(\.lora_down|\.lora_A(\.default)?|[._]lora(_linear_layer)?\.down)\.weight",
    "up": r"(\.lora_up|\.lora_B(\.default)?|[._]lora(_linear_layer)?\.up)\.weight",
    "mid": r"\.lora_mid\.weight",
    "alpha": r"\.alpha",
    "magnitude": r"\.lora_magnitude_vector(\.default)?(\.weight)?",
    "dora_scale": r"\.dora_scale",
    **{
        name: rf"\.{name}(\.default)?"
        for name in (
            *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
            *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
        )
    },
}
_KEY = re.compile(f"(.+?)(?:{'|'.join(f'(?P<{n}>{end})' for n, end in _ENDINGS.items())})")
# diffusers' names of attention layers before it used PEFT.
_FORMER = (
    (re.compile(r"_processor_to_(q|k|v)$"), r"_to_\1"),
    (re.compile(r"_processor_to_out$"), "_to_out_0"),
    (re.compile(r"_self_attn_to_(q|k|v|out)$"), r"_self_attn_\1_proj"),
)
# A residual block's layers in SDXL's original layout.
_ORIGINAL_RESNET = {
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
_ORIGINAL_OUTER = {
    "conv_in": "input_blocks_0_0",
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
    "add_embedding_linear_1": "label_emb_0_0",
    "add_embedding_linear_2": "label_emb_0_2",
    "conv_out": "out_2",
}


@dataclass(frozen=True, slots=True)
class Part:
    """What a key means. `network`: 0: the UNet; 1, 2: the text encoders. `layer`: as the key has
    it, with underscores for dots. `name`: one of `_ENDINGS`. `peft`: whether PEFT itself wrote it.
    """

    network: int
    layer: str
    name: str
    peft: bool


def read_key(key: str) -> Part | None:
    """A key's meaning; None: it is of no known form."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    layer = match[1]
    beginning = max((b for b in _BEGINNINGS if layer.startswith(b)), key=len, default="")
    network = _BEGINNINGS.get(beginning, 0)
    flat = layer.removeprefix(beginning).replace(".", "_")
    for former, ours in _FORMER:
        flat = former.sub(ours, flat)
    name = next(name for name in _ENDINGS if match[name])
    # Of the encoders, transformers' own names begin with `text_model` in some versions only.
    inner = flat.removeprefix("text_model_") if network else flat
    return Part(network, inner, name, "base_model.model." in beginning)


def layers_by_name(networks: Sequence[torch.nn.Module]) -> list[Mapping[str, str]]:
    """Per network (UNet and both text encoders), the layers that a LoRA may change: what keys call
    them, see `Part.layer`, and what the network calls them.
    """
    found: list[Mapping[str, str]] = []
    for number, network in enumerate(networks):
        names = [
            name
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        ]
        flat = {name.replace(".", "_"): name for name in names}
        if number:
            flat = {alias.removeprefix("text_model_"): name for alias, name in flat.items()}
        elif isinstance(network, UNet2DConditionModel):
            flat |= {alias: name for name in names for alias in _original_names(name, network)}
        found.append(flat)
    return found


def _original_names(name: str, unet: UNet2DConditionModel) -> Iterator[str]:
    """The layer's name in SDXL's original layout, which kohya's trainer uses; none where the UNet
    is not of SDXL's kind.
    """
    flat = name.replace(".", "_")
    if flat in _ORIGINAL_OUTER:
        yield _ORIGINAL_OUTER[flat]
        return
    match = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(\w+)\.(\d+)\.(.+)", name)
    layers = unet.config.layers_per_block
    if match is None or not isinstance(layers, int):
        return
    direction, block, kind, number, rest = match.groups()
    inner = _ORIGINAL_RESNET.get(rest, rest.replace(".", "_"))
    if direction == "mid":
        yield f"middle_block_{1 if kind == 'attentions' else 2 * int(number)}_{inner}"
        return
    first = int(block) * (layers + 1)
    place = first + (layers if kind.endswith("samplers") else int(number))
    if direction == "down":
        part = {"resnets": f"0_{inner}", "attentions": f"1_{inner}"}.get(kind, "0_op")
        yield f"input_blocks_{place + 1}_{part}"
        return
    # A block's upsampler stands in one place with its last layer.
    attends = hasattr(unet.up_blocks[int(block)], "attentions")
    part = {"resnets": "0", "attentions": "1"}.get(kind, "2" if attends else "1")
    yield f"output_blocks_{place}_{part}_{inner}"
