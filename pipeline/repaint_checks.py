"""Whether what the model gave back can be a face at all."""

import numpy as np

from pipeline.types import Image, SoftMask

# A face repainted well or badly keeps most of its contrast: on the example, clean and damaged, at
# strengths 0.01 to 1, 0.8 to 1.3 of it. A decoder that lost its latents gives one colour.
_LEAST_SHARE = 0.1
_LEAST_LEVELS = 1.0


def is_blank(painted: Image, original: Image, mask: SoftMask) -> bool:
    """Whether the repainted face is one colour, or as good as.

    Compared is the contrast: the standard deviation of the levels where the mask keeps them, of the
    channel that has most. Blank is what has under a tenth of the original's, or under one level.

    Args:
        painted: the crop as the model gave it back, before any colour is matched.
        original: the crop as it was cut, of the same size.
        mask: what of `painted` is kept, of the same size.
    """
    least = max(_LEAST_LEVELS, _LEAST_SHARE * _contrast(original, mask))
    return _contrast(painted, mask) < least


def _contrast(image: Image, mask: SoftMask) -> float:
    """Levels, 0 to 127.5."""
    kept = mask.pixels > 0
    levels, weights = image.pixels[kept].astype(np.float64), mask.pixels[kept]
    spread = levels - np.average(levels, axis=0, weights=weights)
    return float(np.sqrt(np.average(spread**2, axis=0, weights=weights)).max())
