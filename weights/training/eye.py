"""How the inpainter's loss sees latents: as the picture that the product would give back."""

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from pipeline.models.round_trip import give_back
from weights.training.bfloat16 import BFloat16
from weights.training.identity import FaceEmbedding, cut_chips
from weights.training.vae import FACTOR, decode

PIXEL_WEIGHT = 20.0
IDENTITY_WEIGHT = 3.0
FEATURE_WEIGHT = 3.0
# Distances of embeddings: those below the first are noise; the second is added to the damaged
# face's before the restored one's is divided by it, or lightly damaged ones would count too much.
SMALL_DISTANCE = 0.06
DAMAGED_DISTANCE = 0.1
# The same two for the embedding's inner levels, as shares of the norm of what they see of the aim.
SMALL_SHARE = 0.1
DAMAGED_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Sight:
    """The pictures behind latents (N, 4, h, w): `aim`, what they were to show, `original`, what the
    walk started from, and `coded`, what the VAE shows of that, (N, 3, FACTOR·h, FACTOR·w) in about
    [−1, 1]; `chips` (N, 2, 3), where in them the embedding looks.
    """

    aim: torch.Tensor
    original: torch.Tensor
    coded: torch.Tensor
    chips: torch.Tensor

    def to(self, device: torch.device) -> "Sight":
        """The same there."""
        return Sight(
            self.aim.to(device),
            self.original.to(device),
            self.coded.to(device),
            self.chips.to(device),
        )

    def aimed(self, share: torch.Tensor) -> "Sight":
        """The aim moved to `share` (N, 1, 1, 1) of the way from the original to it."""
        aim = self.original + share * (self.aim - self.original)
        return replace(self, aim=aim)


class Eye:
    """Decodes by the VAE, gives back what that loses, pastes, and compares: each pixel, whose
    face dlib's embedding takes it for, and what the levels of that network see on the way.

    The embedding must see the picture as the product makes it. With a light imitation of the
    decoder, 159 steps of twelve faces brought held-out ones no nearer; with this, 127 steps of
    eight took another 3.7 % of heavily damaged faces' distance away.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self._bfloat16 = BFloat16(vae.device)
        self._vae = self._bfloat16.prepare(copy.deepcopy(vae))
        self._embedding: FaceEmbedding = FaceEmbedding().to(  # type: ignore[call-overload]
            vae.device, memory_format=torch.channels_last
        )

    def error(
        self,
        got: torch.Tensor,
        sight: Sight,
        mask: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of scaled latents `got` (N, 4, h, w); `mask` and each latent's `weight`: (N, 1,
        h, w).
        """
        seen = self.picture(got, sight, mask)
        errors = (seen - sight.aim).square().mean(dim=1, keepdim=True)
        pixels = (weight * F.avg_pool2d(errors, FACTOR)).mean()
        return PIXEL_WEIGHT * pixels + self._strangeness(seen, sight)

    def picture(self, got: torch.Tensor, sight: Sight, mask: torch.Tensor) -> torch.Tensor:
        """What the product shows of latents `got`, (N, 3, FACTOR·h, FACTOR·w)."""
        soft = F.interpolate(mask, scale_factor=float(FACTOR), mode="bilinear")
        painted = give_back(self._decode(got), sight.coded, sight.original, soft)
        return sight.original + soft * (painted - sight.original)

    def embed(self, pictures: torch.Tensor, chips: torch.Tensor) -> torch.Tensor:
        """Whose faces these are: (N, 3, S, S) and the chips' places (N, 2, 3) → (N, 128)."""
        embeddings: torch.Tensor = self._embedding(cut_chips(pictures, chips))
        return embeddings

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        with self._bfloat16.context():
            shown = decode(self._vae, latents)
        return shown.float()

    def _look(self, pictures: torch.Tensor, chips: torch.Tensor) -> list[torch.Tensor]:
        """What the embedding's levels see, and the embedding."""
        with self._bfloat16.context():
            levels = self._embedding.levels(cut_chips(pictures, chips))
        return [level.float() for level in levels]

    def _strangeness(self, seen: torch.Tensor, sight: Sight) -> torch.Tensor:
        """How far from those aimed at the embeddings and what leads to them are, beside how far
        they were.
        """
        with torch.no_grad():
            aim, before = (
                self._look(picture, sight.chips) for picture in (sight.aim, sight.original)
            )
        after = self._look(seen, sight.chips)
        identity = _left(after[-1], aim[-1], before[-1], SMALL_DISTANCE, DAMAGED_DISTANCE)
        levels = []
        for views in zip(after[:-1], aim[:-1], before[:-1], strict=True):
            size = views[1].flatten(1).norm(dim=1)
            levels.append(_left(*views, SMALL_SHARE * size, DAMAGED_SHARE * size))
        return IDENTITY_WEIGHT * identity + FEATURE_WEIGHT * torch.stack(levels).mean()


def _left(
    after: torch.Tensor,
    aim: torch.Tensor,
    before: torch.Tensor,
    small: torch.Tensor | float,
    damaged: torch.Tensor | float,
) -> torch.Tensor:
    """The mean share of the distance between `before` and `aim` that is left; `small` and `damaged`
    as the constants above.
    """
    far = (after - aim).flatten(1).square().sum(dim=1)
    left: torch.Tensor = (far + small**2).sqrt() / ((before - aim).flatten(1).norm(dim=1) + damaged)
    return left.mean()
