"""Trains the profile's VAE: diffusers' `AutoencoderKL`, the same class as SDXL's, with factor 4.

    python -m training.vae --data DIR --minutes 60

Loss: L1 + 2·L2 + gradient L1 (the edges of eyes and mouth are only a few pixels of a face, which
the mean alone neglects) and a weak pull of the latents towards zero. The decoder sees slightly
noisy latents, because the inpainter's are noisy. After the first quarter of the budget only the
decoder is trained: the latents keep their meaning, so an inpainter can be trained on them
meanwhile. Validation: PSNR on held-out portraits of 256 px.
"""

import random

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from training import common

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 40, 80),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "sample_size": 256,
    "force_upcast": False,
}
# Pixels per latent, along each side.
FACTOR = 4
BATCH = 5
CROP_PX = 128
PEAK_RATE = 2e-3
LATENT_NOISE = 0.05
LATENT_PULL = 1e-4
# The share of the budget after which the encoder is frozen.
ENCODER_SHARE = 0.25


def random_crop(rgb: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """(CROP_PX, CROP_PX, 3), from a portrait scaled to 160–384 px, mirrored half the time."""
    side = rng.randint(160, 384)
    scaled = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
    # Three of four crops are from the middle, where the face is.
    span = side - CROP_PX
    margin = span // 4 if rng.random() < 0.75 else 0
    x, y = (rng.randint(margin, span - margin) for _ in range(2))
    crop = scaled[y : y + CROP_PX, x : x + CROP_PX]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def gradient_loss(got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 between the horizontal and the vertical differences."""
    across = F.l1_loss(got.diff(dim=-1), wanted.diff(dim=-1))
    down = F.l1_loss(got.diff(dim=-2), wanted.diff(dim=-2))
    return across + down


def step_loss(
    vae: AutoencoderKL, pixels: torch.Tensor, *, encoder_learns: bool = True
) -> torch.Tensor:
    """The training loss of one batch (N, 3, S, S)."""
    with torch.set_grad_enabled(encoder_learns):
        latents = vae.encode(pixels).latent_dist.mean
    spread = latents.detach().std()
    share = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1, device=latents.device)
    noised = latents + torch.randn_like(latents) * spread * share
    decoded: torch.Tensor = vae.decode(noised).sample
    pull: torch.Tensor = LATENT_PULL * latents.pow(2).mean()
    return (
        F.l1_loss(decoded, pixels)
        + 2 * F.mse_loss(decoded, pixels)
        + gradient_loss(decoded, pixels)
        + pull
    )


def decode(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Scaled latents (N, 4, h, w) → pixels (N, 3, FACTOR·h, FACTOR·w), about [−1, 1]."""
    pixels: torch.Tensor = vae.decode(latents / vae.config.scaling_factor).sample
    return pixels


@torch.inference_mode()
def validate(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[float, float]:
    """Mean PSNR in dB over (N, 3, 256, 256) held-out portraits, and their latents' deviation."""
    psnrs, latents = [], []
    for picture in pictures.split(8):
        mean = vae.encode(picture).latent_dist.mean
        error = (vae.decode(mean).sample.clamp(-1, 1) - picture).pow(2).mean(dim=(1, 2, 3))
        psnrs.append(10 * torch.log10(4 / error))
        latents.append(mean)
    return torch.cat(psnrs).mean().item(), torch.cat(latents).std().item()


def export(vae: AutoencoderKL, spread: float) -> None:
    """Write the averaged model in fp16, with the factor that gives its latents unit variance."""
    exported = AutoencoderKL(**CONFIG, scaling_factor=round(1 / spread, 5))
    exported.load_state_dict(vae.state_dict())
    exported.half().save_pretrained(common.TINY_DIR / "vae", safe_serialization=True)


def main() -> None:
    """Train, validate every minute, export at the end."""
    options = common.parse_options("vae", "Train the tiny VAE.", default_minutes=60)
    rng = random.Random(options.seed)
    portraits = [
        common.load_rgb(file) for file in common.face_files(options.data, validation=False)
    ]
    held_out = torch.stack(
        [
            common.to_tensor(
                cv2.resize(common.load_rgb(file), (256, 256), interpolation=cv2.INTER_AREA)
            )
            for file in common.face_files(options.data, validation=True)[:64]
        ]
    ).to(options.device)
    vae = AutoencoderKL(**CONFIG).to(options.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.0
    )
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    checkpoint.load(vae, optimizer, budget)
    average = common.Average(vae, decay=0.995)
    next_report_s = budget.elapsed_s() + 60
    for step in budget.steps():
        batch = torch.stack(
            [common.to_tensor(random_crop(rng.choice(portraits), rng)) for _ in range(BATCH)]
        )
        loss = step_loss(
            vae,
            batch.to(options.device, memory_format=torch.channels_last),
            encoder_learns=budget.share() < ENCODER_SHARE,
        )
        rate = budget.learning_rate(PEAK_RATE)
        common.take_step(loss, vae, optimizer, average, rate=rate, clip=1.0)
        if budget.elapsed_s() > next_report_s:
            psnr, spread = validate(average.model.module, held_out)
            minutes = budget.elapsed_s() / 60
            print(
                f"{minutes:5.1f} min  step {step}  loss {loss.item():.4f}  psnr {psnr:.2f} dB  "
                f"std {spread:.3f}",
                flush=True,
            )
            checkpoint.save(vae, optimizer, budget)
            next_report_s = budget.elapsed_s() + 60
    checkpoint.save(vae, optimizer, budget)
    psnr, spread = validate(average.model.module, held_out)
    export(average.model.module, spread)
    print(f"done: {psnr:.2f} dB on {len(held_out)} held-out portraits", flush=True)


if __name__ == "__main__":
    main()
