"""Make `astronaut-damaged.jpg` from `astronaut.png`: small, blurred, noisy, recompressed.

python examples/damage.py
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

FOLDER = Path(__file__).resolve().parent
REDUCTION = 3.2
BLUR_PX = 0.5
NOISE_LEVELS = 5.0
JPEG_QUALITY = 45


def damage(picture: Image.Image) -> Image.Image:
    """The picture at its own size: reduced and enlarged again, blurred while small, then noisy."""
    small_size = tuple(round(length / REDUCTION) for length in picture.size)
    small = picture.resize((small_size[0], small_size[1]), Image.Resampling.BOX)
    soft = small.filter(ImageFilter.GaussianBlur(BLUR_PX)).resize(
        picture.size, Image.Resampling.BICUBIC
    )
    noise = np.random.default_rng(0).normal(0, NOISE_LEVELS, (soft.height, soft.width, 3))
    return Image.fromarray((np.asarray(soft) + noise).round().clip(0, 255).astype(np.uint8))


def main() -> None:
    """Write the damaged picture beside the clean one."""
    with Image.open(FOLDER / "astronaut.png") as picture:
        damaged = damage(picture.convert("RGB"))
    damaged.save(FOLDER / "astronaut-damaged.jpg", quality=JPEG_QUALITY)


if __name__ == "__main__":
    main()
