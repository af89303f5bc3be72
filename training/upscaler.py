"""Trains the profile's ×2 upscaler: Real-ESRGAN's SRVGGNetCompact, as loaded by spandrel.

    python -m training.photos --data DIR
    python -m training.upscaler --data DIR --minutes 15

Pairs: crops of clean pictures and the same at half the size, by area, bicubic or Lanczos; one in
four is also slightly noisy and compressed, so that the network does not amplify such artefacts.
Loss: L1 and gradient L1, without an adversary, because it must invent nothing. Validation: PSNR on
held-out portraits and photographs, compared with Lanczos.
"""

import io
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact

from training import common

FEATURES = 32
CONVS = 6
BATCH = 12
LOW_PX = 40
PEAK_RATE = 2e-3
PORTRAITS = 600
# The kernels for halving. BOX averages areas.
KERNELS = {
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MEASURED_PX = 512

Rgb = NDArray[np.uint8]


def make_model(device: torch.device) -> torch.nn.Module:
    """The network: (N, 3, H, W) float in [0, 1] → (N, 3, 2H, 2W)."""
    network = Compact(num_feat=FEATURES, num_conv=CONVS, upscale=2)
    model: torch.nn.Module = network.to(device, memory_format=torch.channels_last)
    return model


def photo_files(data: Path, *, validation: bool) -> list[Path]:
    """One side of the split: every eighth wallpaper and all samples are held out."""
    files = sorted((data / "photos").glob("*.png"))
    if not files:
        raise FileNotFoundError(
            f"no photographs in {data / 'photos'}: run python -m training.photos first"
        )
    picked = [file for index, file in enumerate(files) if (index % 8 == 0) == validation]
    return picked + (sorted((data / "photos-held-out").glob("*.png")) if validation else [])


def spoil(low: Image.Image, rng: random.Random) -> Image.Image:
    """Mild noise (σ up to 3 levels) and JPEG (quality 70–95)."""
    pixels = np.asarray(low, np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, 3), pixels.shape)
    file = io.BytesIO()
    noisy = Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))
    noisy.save(file, "JPEG", quality=rng.randint(70, 95))
    return Image.open(file).convert("RGB")


def random_pair(pictures: list[Image.Image], rng: random.Random) -> tuple[Rgb, Rgb]:
    """A small crop (LOW_PX a side) and its original, from a picture reduced 1–2.5 times."""
    picture = rng.choice(pictures)
    side = 2 * LOW_PX
    window = min(round(side * rng.uniform(1, 2.5)), *picture.size)
    x, y = rng.randint(0, picture.width - window), rng.randint(0, picture.height - window)
    high = picture.resize(
        (side, side), Image.Resampling.LANCZOS, box=(x, y, x + window, y + window)
    )
    low = high.resize((LOW_PX, LOW_PX), rng.choice(list(KERNELS.values())))
    if rng.random() < 0.25:
        low = spoil(low, rng)
    turn, mirror = rng.randint(0, 3), rng.choice((1, -1))
    first, second = (np.rot90(np.asarray(part), turn)[:, ::mirror] for part in (low, high))
    return first.copy(), second.copy()


def to_unit(rgb: Rgb) -> torch.Tensor:
    """(H, W, 3) uint8 → (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(rgb).permute(2, 0, 1).float() / 255


def step_loss(model: torch.nn.Module, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """L1 of the pixels and of their gradients."""
    got = model(low)
    across = F.l1_loss(got.diff(dim=-1), high.diff(dim=-1))
    down = F.l1_loss(got.diff(dim=-2), high.diff(dim=-2))
    return F.l1_loss(got, high) + 0.5 * (across + down)


def psnr(got: Rgb, wanted: Rgb) -> float:
    """Peak signal-to-noise ratio in dB over all channels; 8-bit pictures of one size."""
    error = float(np.mean((got.astype(np.float32) - wanted.astype(np.float32)) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-6))


def middle(file: Path) -> Image.Image:
    """The middle of a picture, with even sides of at most MEASURED_PX."""
    picture = Image.fromarray(common.load_rgb(file))
    width, height = (min(MEASURED_PX, length // 2 * 2) for length in picture.size)
    x, y = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((x, y, x + width, y + height))


@torch.inference_mode()
def measure(
    model: torch.nn.Module, files: list[Path], device: torch.device, kernels: list[str]
) -> dict[str, float]:
    """Mean PSNR in dB of the model and of Lanczos, as {"area": …, "area_lanczos": …}."""
    figures: dict[str, list[float]] = {}
    for picture in map(middle, files):
        wanted = np.asarray(picture)
        for kernel in kernels:
            low = picture.resize((picture.width // 2, picture.height // 2), KERNELS[kernel])
            output = model(
                to_unit(np.array(low))[None].to(device, memory_format=torch.channels_last)
            )[0]
            got = (output.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            plain = np.asarray(low.resize(picture.size, Image.Resampling.LANCZOS))
            figures.setdefault(kernel, []).append(psnr(got, wanted))
            figures.setdefault(f"{kernel}_lanczos", []).append(psnr(plain, wanted))
    return {name: round(float(np.mean(values)), 2) for name, values in figures.items()}


@torch.inference_mode()
def seconds_per_megapixel(model: torch.nn.Module, device: torch.device) -> float:
    """Wall time in seconds from 1024 × 1024 to 2048 × 2048 pixels, in the second run."""
    picture = torch.rand(1, 3, 1024, 1024, device=device).to(memory_format=torch.channels_last)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        model(picture).sum().item()
        seconds = time.perf_counter() - started
    return round(seconds, 2)


def export(model: torch.nn.Module, options: common.Options, minutes: float) -> None:
    """Write `x2.safetensors`, and the figures to `metrics.json`."""
    folder = common.TINY_DIR / "upscaler"
    folder.mkdir(exist_ok=True)
    state = {name: value.float().contiguous().cpu() for name, value in model.state_dict().items()}
    save_file(state, folder / "x2.safetensors")
    kernels = list(KERNELS)
    figures = {
        "psnr_db_portraits": measure(
            model, common.face_files(options.data, validation=True)[:64], options.device, kernels
        ),
        "psnr_db_photographs": measure(
            model, photo_files(options.data, validation=True), options.device, kernels
        ),
        "seconds_1024_to_2048": seconds_per_megapixel(model, options.device),
        "threads": torch.get_num_threads(),
        "training_minutes": round(minutes, 1),
        "device": options.device.type,
    }
    (folder / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2), flush=True)


def main() -> None:
    """Train, validate every two minutes, export at the end."""
    options = common.parse_options("upscaler", "Train the tiny ×2 upscaler.", default_minutes=15)
    files = photo_files(options.data, validation=False)
    photos = [Image.fromarray(common.load_rgb(file)) for file in files]
    portraits = [
        Image.fromarray(common.load_rgb(file))
        for file in common.face_files(options.data, validation=False)[:PORTRAITS]
    ]
    held_out = (
        photo_files(options.data, validation=True)
        + common.face_files(options.data, validation=True)[:8]
    )
    model = make_model(options.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0
    )
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    checkpoint.load(model, optimizer, budget)
    # Seeded with the time spent, so that a resumed run does not see the same crops again.
    rng = random.Random(f"{options.seed} {budget.spent_s}")
    average = common.Average(model, decay=0.99)
    next_report_s = budget.elapsed_s() + 120
    for step in budget.steps():
        pairs = [random_pair(rng.choice((photos, portraits)), rng) for _ in range(BATCH)]
        low, high = (
            torch.stack([to_unit(part) for part in side]).to(
                options.device, memory_format=torch.channels_last
            )
            for side in zip(*pairs, strict=True)
        )
        loss = step_loss(model, low, high)
        rate = budget.learning_rate(PEAK_RATE)
        common.take_step(loss, model, optimizer, average, rate=rate, clip=0.5)
        if budget.elapsed_s() > next_report_s:
            figures = measure(average.model.module, held_out, options.device, ["bicubic"])
            minutes = budget.elapsed_s() / 60
            print(f"{minutes:5.1f} min  step {step}  loss {loss.item():.4f}  {figures}", flush=True)
            checkpoint.save(model, optimizer, budget)
            next_report_s = budget.elapsed_s() + 120
    checkpoint.save(model, optimizer, budget)
    export(average.model.module, options, budget.elapsed_s() / 60)


if __name__ == "__main__":
    main()
