"""LoRAs, merged into the weights: every file that trainers of SDXL write, or an error.

diffusers' own loader leaves out what it does not know with no more than a warning: layers without
a namesake, DoRA's magnitudes in kohya's files, and the first text encoder's layers, which
transformers has renamed. LoHa and LoKr with kohya's names it does not read.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from pipeline.errors import WeightsError
from pipeline.models.sdxl.lora_changes import MAGNITUDES, Parts, Strength, changed, rank_of
from pipeline.models.sdxl.lora_names import Part, layers_by_name, read_key

# Where diffusers keeps PEFT's settings in a file's header, by network.
_HEADER_KEY = "lora_adapter_metadata"
_NETWORKS = ("unet", "text_encoder", "text_encoder_2")

# A layer: the network's number, and what the keys call it.
_Layer = tuple[int, str]


def merge_lora(networks: Sequence[torch.nn.Module], file: Path, scale: float) -> None:
    """Add a LoRA (plain, DoRA, LoHa or LoKr; kohya's, diffusers', PEFT's or LyCORIS' names) to the
    weights, `scale` times as strongly as it was trained.

    Args:
        networks: UNet and both text encoders, on the CPU; of no use after an error.
        file: safetensors. The strength is alpha / rank, with alpha from the layer, from the file's
            header or, for PEFT's own files, from the `adapter_config.json` beside it.
        scale: the user's.

    Raises:
        WeightsError: the file cannot be read, has keys or layers that mean nothing here, or would
            change nothing.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
        tensors = load_file(file)
        keys = _understood(tensors)
        layers = _by_layer(tensors, keys)
        names = _resolved(layers, networks)
        whole = all("alpha" in parts for parts in layers.values())
        needed = not whole and any(part.peft for part in keys.values())
        strengths = _strengths(file, header, peft=needed)
        differs = False
        for layer, parts in layers.items():
            weight = networks[layer[0]].get_parameter(f"{names[layer]}.weight").data
            new = _merged(layer, names[layer], parts, weight, strengths, scale)
            differs = differs or not torch.equal(new, weight)
            weight.copy_(new)
        if scale and not differs:
            raise WeightsError("it changes no weight")
    except (OSError, SafetensorError, WeightsError, json.JSONDecodeError) as error:
        raise WeightsError(f"the LoRA {file} cannot be used: {error}") from error


def _understood(tensors: Parts) -> dict[str, Part]:
    parts = {key: read_key(key) for key in tensors}
    strange = [key for key, part in parts.items() if part is None]
    if strange:
        raise WeightsError(
            f"{len(strange)} of its {len(parts)} tensors are of a kind that is not known, such as "
            f"{strange[0]}; known are LoRA, DoRA, LoHa and LoKr"
        )
    return {key: part for key, part in parts.items() if part is not None}


def _by_layer(tensors: Parts, keys: Mapping[str, Part]) -> dict[_Layer, dict[str, torch.Tensor]]:
    layers: dict[_Layer, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, part in keys.items():
        parts = layers[part.network, part.layer]
        if part.name in parts:
            raise WeightsError(f"it has two tensors for one place, such as {key}")
        parts[part.name] = tensors[key]
    if not layers:
        raise WeightsError("it is empty")
    return dict(layers)


def _resolved(layers: Mapping[_Layer, Parts], networks: Sequence[Any]) -> dict[_Layer, str]:
    """What the networks call the layers."""
    known = layers_by_name(networks)
    strange = [layer for number, layer in layers if layer not in known[number]]
    if strange:
        raise WeightsError(
            f"{len(strange)} of its {len(layers)} layers are not in this model, such as "
            f"{strange[0]}; was it made for SDXL?"
        )
    names = {(number, layer): known[number][layer] for number, layer in layers}
    seen: set[tuple[int, str]] = set()
    for (number, _), name in names.items():
        if (number, name) in seen:
            raise WeightsError(f"it has two names for one layer, {name}")
        seen.add((number, name))
    return names


def _strengths(file: Path, header: Mapping[str, str], *, peft: bool) -> list[Strength]:
    """Per network, what the file, or PEFT's own beside it, says of the strength."""
    if _HEADER_KEY in header:
        settings = json.loads(header[_HEADER_KEY])
        return [
            Strength.from_peft(
                {k.removeprefix(f"{n}."): v for k, v in settings.items() if k.startswith(f"{n}.")}
            )
            for n in _NETWORKS
        ]
    beside = file.with_name("adapter_config.json")
    if not peft:
        return [Strength()] * len(_NETWORKS)
    if not beside.is_file():
        raise WeightsError(f"its strength is not known: PEFT's {beside} is missing")
    return [Strength.from_peft(json.loads(beside.read_text(encoding="utf-8")))] * len(_NETWORKS)


def _merged(
    layer: _Layer,
    name: str,
    parts: Parts,
    weight: torch.Tensor,
    strengths: Sequence[Strength],
    scale: float,
) -> torch.Tensor:
    """The layer's new weight, in its own precision."""
    strength = strengths[layer[0]]
    if strength.dora and not any(kind in parts for kind in MAGNITUDES):
        raise WeightsError(f"it is a DoRA, but has no magnitudes for {name}")
    matrices = {kind: part for kind, part in parts.items() if kind != "alpha"}
    alpha = parts["alpha"].item() if "alpha" in parts else _alpha(strength, name)
    try:
        new = changed(weight, matrices, strength.share(alpha, rank_of(matrices)), scale)
    except (WeightsError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"its layer {layer[1]} is not right: {reason}") from error
    return new.to(weight.dtype)


def _alpha(strength: Strength, name: str) -> float | None:
    """PEFT's patterns mean the ends of names, from a dot on; an encoder's in any version."""
    inner = name.removeprefix("text_model.")
    for pattern, alpha in strength.alphas.items():
        if any(re.fullmatch(rf"(.*\.)?({pattern})", n) for n in (inner, f"text_model.{inner}")):
            return alpha
    return strength.alpha
