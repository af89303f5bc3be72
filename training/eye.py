"""The inpainter's view of latents: its loss is computed on the picture that they become."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from pipeline.models.sdxl.round_trip import finish, give_back
from training.bfloat16 import BFloat16
from training.identity import FaceEmbedding, cut_chips
from training.vae import FACTOR, decode

PIXEL_WEIGHT = 20.0
IDENTITY_WEIGHT = 3.0
FEATURE_WEIGHT = 3.0
# Distances between embeddings. Those below the first are noise. The second is added to the damaged
# face's distance before the restored one's is divided by it, or light damage would count too much.
SMALL_DISTANCE = 0.06
DAMAGED_DISTANCE = 0.1
# The same for the embedding's inner levels, as shares of the norm of their output for the target.
SMALL_SHARE = 0.1
DAMAGED_SHARE = 0.15

# Of `pipeline.models.sdxl.round_trip`.
Combine = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Sight:
    """The pictures behind latents (N, 4, h, w).

    `aim`: the target; `original`: the input; `coded`: the input after a round trip through the VAE;
    each (N, 3, FACTOR·h, FACTOR·w) in about [−1, 1]. `chips`: (N, 2, 3), the part of the pictures
    that the embedding looks at (`ChipFinder.find`).
    """

    aim: torch.Tensor
    original: torch.Tensor
    coded: torch.Tensor
    chips: torch.Tensor

    def to(self, device: torch.device) -> "Sight":
        """The same, on `device`."""
        return Sight(
            self.aim.to(device),
            self.original.to(device),
            self.coded.to(device),
            self.chips.to(device),
        )

    def aimed(self, share: torch.Tensor) -> "Sight":
        """The same, with the aim at `share` (N, 1, 1, 1) of the way from the original to it."""
        aim = self.original + share * (self.aim - self.original)
        return replace(self, aim=aim)


class Eye:
    """Decodes latents with the VAE, adds back what it loses, pastes, and compares with the target.

    It compares pixels, dlib's face embeddings, and the outputs of that network's inner levels. The
    embedding must see the picture as the product makes it: with a light imitation of the decoder,
    159 steps of twelve faces did not bring held-out faces any closer; with this, 127 steps of eight
    faces removed another 3.7 % of the distance of heavily damaged ones.
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
        """The loss of scaled latents `got` (N, 4, h, w).

        `mask` and `weight`: (N, 1, h, w), per latent pixel.
        """
        # Without `finish`: its gradient vanishes where the model changes nothing, so that training
        # would never leave such a place.
        seen = _paste(give_back, self._decode(got), sight, mask)
        errors = (seen - sight.aim).square().mean(dim=1, keepdim=True)
        pixels = (weight * F.avg_pool2d(errors, FACTOR)).mean()
        return PIXEL_WEIGHT * pixels + self._strangeness(seen, sight)

    def picture(self, got: torch.Tensor, sight: Sight, mask: torch.Tensor) -> torch.Tensor:
        """The picture that the product makes of latents `got`, (N, 3, FACTOR·h, FACTOR·w)."""
        return _paste(finish, self._decode(got), sight, mask)

    def embed(self, pictures: torch.Tensor, chips: torch.Tensor) -> torch.Tensor:
        """The embeddings (N, 128) of pictures (N, 3, S, S); `chips`: (N, 2, 3)."""
        embeddings: torch.Tensor = self._embedding(cut_chips(pictures, chips))
        return embeddings

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        with self._bfloat16.context():
            shown = decode(self._vae, latents)
        return shown.float()

    def _look(self, pictures: torch.Tensor, chips: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of the embedding's levels, then the embedding."""
        with self._bfloat16.context():
            levels = self._embedding.levels(cut_chips(pictures, chips))
        return [level.float() for level in levels]

    def _strangeness(self, seen: torch.Tensor, sight: Sight) -> torch.Tensor:
        """The share of the embeddings' and inner levels' distance to the aim that is left."""
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


def _paste(
    combine: Combine, decoded: torch.Tensor, sight: Sight, mask: torch.Tensor
) -> torch.Tensor:
    """The originals with what `combine` makes of the decoded crops under the mask."""
    soft = F.interpolate(mask, scale_factor=float(FACTOR), mode="bilinear")
    painted = combine(decoded, sight.coded, sight.original, soft)
    return sight.original + soft * (painted - sight.original)


def _left(
    after: torch.Tensor,
    aim: torch.Tensor,
    before: torch.Tensor,
    small: torch.Tensor | float,
    damaged: torch.Tensor | float,
) -> torch.Tensor:
    """The mean share of the distance between `before` and `aim` that is left.

    `small` and `damaged`: see the constants above.
    """
    far = (after - aim).flatten(1).square().sum(dim=1)
    left: torch.Tensor = (far + small**2).sqrt() / ((before - aim).flatten(1).norm(dim=1) + damaged)
    return left.mean()
