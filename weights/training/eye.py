"""How the inpainter's loss sees latents: as the picture that the product would give back."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from pipeline.models.round_trip import give_back
from weights.training.identity import FaceEmbedding, cut_chips
from weights.training.vae import FACTOR, decode

PIXEL_WEIGHT = 20.0
IDENTITY_WEIGHT = 3.0
# Distances of embeddings: those below the first are noise; the second is added to the damaged
# face's before the restored one's is divided by it, or lightly damaged ones would count too much.
SMALL_DISTANCE = 0.06
DAMAGED_DISTANCE = 0.1


@dataclass(frozen=True, slots=True)
class Sight:
    """The pictures behind latents (N, 4, h, w): `aim`, what they were to show, and `original`, what
    the walk started from, (N, 3, FACTOR·h, FACTOR·w) in [−1, 1]; `chips` (N, 2, 3), where in them
    the embedding looks.
    """

    aim: torch.Tensor
    original: torch.Tensor
    chips: torch.Tensor

    def to(self, device: torch.device) -> "Sight":
        """The same there."""
        return Sight(self.aim.to(device), self.original.to(device), self.chips.to(device))

    def toward_clean(self, healthy: torch.Tensor, share: torch.Tensor) -> "Sight":
        """With the clean picture as the original of `healthy` rows, and as the aim what lies
        `share` of the way from the original to it; both (N, 1, 1, 1).
        """
        original = torch.where(healthy, self.aim, self.original)
        return Sight(original + share * (self.aim - original), original, self.chips)


class Eye:
    """Decodes by the VAE, gives back what that loses, pastes, and compares: each pixel, and whose
    face dlib's embedding takes it for.

    The embedding must see the picture as the product makes it. With a light imitation of the
    decoder, 159 steps of twelve faces brought held-out ones no nearer; with this, 127 steps of
    eight took another 3.7 % of heavily damaged faces' distance away.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self._vae = vae
        self._embedding: FaceEmbedding = FaceEmbedding().to(  # type: ignore[call-overload]
            vae.device, memory_format=torch.channels_last
        )

    def error(
        self,
        got: torch.Tensor,
        start: torch.Tensor,
        sight: Sight,
        mask: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of scaled latents `got` (N, 4, h, w) that were `start` before the step; `mask`
        and each latent's `weight`: (N, 1, h, w).
        """
        seen = self.picture(got, start, sight.original, mask)
        errors = (seen - sight.aim).square().mean(dim=1, keepdim=True)
        pixels = (weight * F.avg_pool2d(errors, FACTOR)).mean()
        return PIXEL_WEIGHT * pixels + IDENTITY_WEIGHT * self._strangeness(seen, sight)

    def picture(
        self, got: torch.Tensor, start: torch.Tensor, original: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """What the product shows of latents `got`, (N, 3, FACTOR·h, FACTOR·w)."""
        with torch.no_grad():
            coded = decode(self._vae, start)
        soft = F.interpolate(mask, scale_factor=float(FACTOR), mode="bilinear")
        painted = give_back(decode(self._vae, got), coded, original, soft)
        return original + soft * (painted - original)

    def embed(self, pictures: torch.Tensor, chips: torch.Tensor) -> torch.Tensor:
        """Whose faces these are: (N, 3, S, S) and the chips' places (N, 2, 3) → (N, 128)."""
        embeddings: torch.Tensor = self._embedding(cut_chips(pictures, chips))
        return embeddings

    def _strangeness(self, seen: torch.Tensor, sight: Sight) -> torch.Tensor:
        """How far the embeddings are from those aimed at, beside how far they were."""
        with torch.no_grad():
            aim, before = (
                self.embed(picture, sight.chips) for picture in (sight.aim, sight.original)
            )
        after = self.embed(seen, sight.chips)
        left = ((after - aim).square().sum(dim=1) + SMALL_DISTANCE**2).sqrt()
        strangeness: torch.Tensor = left / ((before - aim).norm(dim=1) + DAMAGED_DISTANCE)
        return strangeness.mean()
