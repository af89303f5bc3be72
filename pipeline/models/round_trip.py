"""What a VAE's round trip loses of a picture, and how much of it a repainted crop gets back."""

import torch

# Root mean square, in [−1, 1], of a change at which half of the loss stays lost. On 16 portraits,
# PSNR gained at heavy and at medium damage, and reached at none: 0.49, 0.53, 46.3 dB with all given
# back; 0.55, 0.69, 40.6 dB with 0.6 of it; 0.55, 0.62, 46.1 dB by this rule.
DAMAGED = 0.045


def give_back(
    painted: torch.Tensor, coded: torch.Tensor, original: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """`painted` with what `coded` lacks of `original`: nearly all of it where the walk left the
    face as it was, less the more it changed. Such a face was damaged, and noise and blocks are much
    of what a VAE does not hold.

    Args:
        painted: the decoded results, (N, 3, S, S), in about [−1, 1].
        coded: the originals, encoded and decoded, likewise.
        original: the crops, likewise.
        mask: how much of each was repainted, (N, 1, S, S) in [0, 1]; where that is nothing, all is
            given back.
    """
    squares = (mask * (painted - coded).square()).mean(dim=(1, 2, 3), keepdim=True)
    change = squares / mask.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    return painted + (original - coded) / (1 + change / DAMAGED**2)
