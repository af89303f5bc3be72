"""What a LoRA's matrices add to a weight: plain ones, LyCORIS' LoHa and LoKr, and DoRA over each.

Formulas: LoRA (Hu et al. 2021), DoRA (Liu et al. 2024), LoHa and LoKr (Yeh et al. 2023, LyCORIS).
Names of the parts: see `pipeline.models.sdxl.lora_names`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.errors import WeightsError

Parts = Mapping[str, torch.Tensor]

_PLAIN = frozenset({"down", "up"})
_HADA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
_HADA_CORES = frozenset({"hada_t1", "hada_t2"})
# What the tensor of a DoRA is called: by diffusers and PEFT, and by Kohya's and LyCORIS.
MAGNITUDES = frozenset({"magnitude", "dora_scale"})
_LOKR = tuple(
    frozenset({*first, *second})
    for first in ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
    for second in (
        {"lokr_w2"},
        {"lokr_w2_a", "lokr_w2_b"},
        {"lokr_w2_a", "lokr_w2_b", "lokr_t2"},
    )
)


@dataclass(frozen=True, slots=True)
class Strength:
    """What a file says of its strength beside the matrices.

    `alpha`: what is added is alpha / rank of the matrices' product; None: all of it. `alphas`: by
    layer, as PEFT's patterns of names. `rank`: where the matrices do not tell it. `rooted`:
    alpha / √rank instead. `dora`: whether each layer has magnitudes.
    """

    alpha: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    rank: int | None = None
    rooted: bool = False
    dora: bool = False

    @classmethod
    def from_peft(cls, config: Mapping[str, Any]) -> "Strength":
        """From PEFT's settings, of a LoRA, a LoHa or a LoKr."""
        alpha = config.get("lora_alpha", config.get("alpha"))
        return cls(
            alpha=None if alpha is None else float(alpha),
            alphas={
                name: float(value) for name, value in (config.get("alpha_pattern") or {}).items()
            },
            rank=config.get("r"),
            rooted=bool(config.get("use_rslora")),
            dora=bool(config.get("use_dora")),
        )

    def share(self, alpha: float | None, rank: int | None) -> float:
        """How much of the product is added. `alpha`: the layer's own; `rank`: its matrices'."""
        rank = rank or self.rank
        if alpha is None or not rank:
            return 1.0
        return float(alpha / (rank**0.5 if self.rooted else rank))


def changed(weight: torch.Tensor, parts: Parts, share: float, scale: float) -> torch.Tensor:
    """The weight with a LoRA merged in, float32.

    A DoRA is merged by `scale` of the way from the weight to what it was trained to be.

    Args:
        weight: (out, in) or (out, in, kernel, kernel), any float.
        parts: the layer's matrices, and its magnitudes.
        share: see `Strength.share`.
        scale: the user's.

    Raises:
        WeightsError: the matrices are not of one kind, or do not fit the weight.
    """
    before = weight.float()
    product = _product({n: p.float() for n, p in parts.items() if n not in MAGNITUDES})
    fits = product.shape[0] == before.shape[0] and product.numel() == before.numel()
    if not fits or (product.ndim == before.ndim and product.shape != before.shape):
        raise WeightsError(f"{tuple(product.shape)} does not fit {tuple(before.shape)}")
    added = share * product.reshape(before.shape)
    magnitudes = next((parts[name] for name in MAGNITUDES if name in parts), None)
    if magnitudes is None:
        return before + scale * added
    aimed = _with_magnitudes(before + added, magnitudes.float(), by_output="magnitude" in parts)
    return before + scale * (aimed - before)


def rank_of(parts: Parts) -> int | None:
    """The rank by which alpha is divided; None: the matrices have none."""
    for name in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in parts:
            return parts[name].shape[0]
    return None


def _product(parts: Parts) -> torch.Tensor:
    """What the matrices stand for: (out, …), before any factor."""
    kinds = frozenset(parts)
    if kinds == _PLAIN:
        return parts["up"].flatten(1) @ parts["down"].flatten(1)
    if kinds == _PLAIN | {"mid"}:
        return _tucker(parts["mid"], parts["up"].flatten(1).T, parts["down"].flatten(1))
    if kinds == _HADA:
        return (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    if kinds == _HADA | _HADA_CORES:
        first = _tucker(parts["hada_t1"], parts["hada_w1_a"], parts["hada_w1_b"])
        return first * _tucker(parts["hada_t2"], parts["hada_w2_a"], parts["hada_w2_b"])
    if kinds in _LOKR:
        return _kronecker(parts)
    raise WeightsError(f"{', '.join(sorted(kinds)) or 'nothing'} is no LoRA, LoHa or LoKr")


def _kronecker(parts: Parts) -> torch.Tensor:
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        second = _tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    first = first.reshape(*first.shape, *[1] * (second.ndim - 2))
    return torch.kron(first.contiguous(), second.contiguous())


def _tucker(core: torch.Tensor, out: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """(rank, rank, k, k), (rank, O) and (rank, I) → (O, I, k, k)."""
    return torch.einsum("pqkl,po,qi->oikl", core, out, into)


def _with_magnitudes(
    weight: torch.Tensor, magnitudes: torch.Tensor, *, by_output: bool
) -> torch.Tensor:
    """DoRA: directions from the weight, lengths from `magnitudes`, one per output.

    LyCORIS' older files have one per input instead, which only the shape tells: (1, in, …).
    """
    lengths = magnitudes.flatten()
    axis = 0 if by_output or magnitudes.shape[0] == weight.shape[0] else 1
    if len(lengths) != weight.shape[axis]:
        raise WeightsError(f"{len(lengths)} magnitudes do not fit {tuple(weight.shape)}")
    sides = [-1 if place == axis else 1 for place in range(weight.ndim)]
    others = [place for place in range(weight.ndim) if place != axis]
    norms: torch.Tensor = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    return weight * lengths.reshape(sides) / norms.clamp_min(torch.finfo(weight.dtype).eps)
