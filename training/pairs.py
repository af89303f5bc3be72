"""The inpainter's training pairs: clean, damaged and masked latents of face crops.

They are kept in a ring that is renewed during training.
"""

import copy
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from evaluation.damages import Damage, apply_damage, draw_damage
from training import common
from training.bfloat16 import BFloat16
from training.eye import Sight
from training.identity import ChipFinder
from training.vae import FACTOR, decode

WORK_PX = 256
# Around the profile's crop factors.
CROP_FACTORS = (1.25, 1.9)
# Smaller faces give soft crops, and soft targets teach softness.
SHORTEST_FACE_PX = 120


@dataclass(frozen=True, slots=True)
class Portrait:
    """A picture and its largest face: x0, y0, x1, y1 in pixels."""

    rgb: NDArray[np.uint8]
    box: tuple[float, float, float, float]


def load_portraits(data: Path, labels: Path, *, validation: bool) -> list[Portrait]:
    """The portraits whose largest face is large enough.

    `labels`: `faces.json` of `training/teachers.py`.
    """
    faces = json.loads(labels.read_text())
    portraits = []
    for file in common.face_files(data, validation=validation):
        boxes = [tuple(face["box"]) for face in faces.get(file.name, [])]
        if not boxes:
            continue
        box = max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
        if max(box[2] - box[0], box[3] - box[1]) >= SHORTEST_FACE_PX:
            portraits.append(Portrait(common.load_rgb(file), box))
    return portraits


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop of a face.

    `rgb`: (WORK_PX, WORK_PX, 3); `mask`: (WORK_PX, WORK_PX), what to repaint; `box`: of the face,
    in crop pixels.
    """

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    box: tuple[float, float, float, float]


def crop(portrait: Portrait, rng: random.Random) -> Crop:
    """A face crop as the pipeline cuts it, jittered."""
    x0, y0, x1, y1 = portrait.box
    side = max(x1 - x0, y1 - y0) * rng.uniform(*CROP_FACTORS)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + [
        rng.gauss(0, 0.03) * side for _ in range(2)
    ]
    scale = WORK_PX / side
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    angle = rng.gauss(0, 6.0) if rng.random() < 0.5 else 0.0
    turn = cv2.getRotationMatrix2D(tuple(centre), angle, scale)
    turn[:, 2] += WORK_PX / 2 - centre
    if mirror < 0:
        turn[0] = -turn[0]
        turn[0, 2] += WORK_PX - 1
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    source = portrait.rgb if scale > 0.75 else cv2.GaussianBlur(portrait.rgb, (0, 0), 0.4 / scale)
    pixels = cv2.warpAffine(
        source, turn, (WORK_PX, WORK_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    middle = turn @ np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0])
    grown = rng.uniform(1.0, 1.35)
    axes = ((x1 - x0) / 2 * scale * grown, (y1 - y0) / 2 * scale * grown)
    mask = np.zeros((WORK_PX, WORK_PX), np.uint8)
    pixels = _relight(pixels, rng)
    cv2.ellipse(mask, (tuple(middle), (2 * axes[0], 2 * axes[1]), -angle * mirror), 1, -1)
    (x, y), half_w, half_h = middle.tolist(), (x1 - x0) / 2 * scale, (y1 - y0) / 2 * scale
    box = (x - half_w, y - half_h, x + half_w, y + half_h)
    return Crop(pixels, mask.astype(bool), box)


def _relight(pixels: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Half of the time: other gamma, contrast and saturation; occasionally grey."""
    if rng.random() < 0.5:
        return pixels
    levels = (pixels.astype(np.float32) / 255) ** rng.uniform(0.7, 1.4)
    levels = rng.uniform(0.75, 1.1) * (levels - 0.5) + 0.5 + rng.uniform(-0.06, 0.06)
    grey = levels.mean(axis=2, keepdims=True)
    levels = grey + (levels - grey) * (0 if rng.random() < 0.15 else rng.uniform(0.5, 1.2))
    relit: NDArray[np.uint8] = np.clip(levels * 255 + 0.5, 0, 255).astype(np.uint8)
    return relit


class PairRing:
    """Up to `size` pairs on the CPU; new ones replace the oldest.

    A window of each crop is kept, `side` latents or S pixels wide. Scaled latents, fp32: `clean`,
    `damaged` and `masked`, (size, 4, side, side); `mask`, (size, 1, side, side) in {0, 1}. Pictures
    (size, 3, S, S): `clean_rgb` and `damaged_rgb`, uint8 RGB; `coded`, fp32, the damaged picture
    after a round trip through the VAE. `chips`, (size, 2, 3): see `ChipFinder.find`.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        portraits: list[Portrait],
        size: int,
        seed: int,
        *,
        side: int = WORK_PX // FACTOR,
    ) -> None:
        self._bfloat16 = BFloat16(vae.device)
        self._vae = self._bfloat16.prepare(copy.deepcopy(vae))
        self._portraits = portraits
        self._rng = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self.clean, self.damaged, self.masked = (torch.zeros(size, 4, side, side) for _ in range(3))
        self.mask = torch.zeros(size, 1, side, side)
        pictures = (size, 3, FACTOR * side, FACTOR * side)
        self.clean_rgb, self.damaged_rgb = (
            torch.zeros(pictures, dtype=torch.uint8) for _ in range(2)
        )
        self.coded = torch.zeros(pictures)
        self.chips = torch.zeros(size, 2, 3)
        self._finder = ChipFinder()
        self._size = size
        self.made = 0

    def __len__(self) -> int:
        return min(self.made, self._size)

    def sight(self, rows: torch.Tensor) -> Sight:
        """The pictures of these rows; the clean ones are the aim."""
        clean, damaged = (rgb[rows] / 127.5 - 1 for rgb in (self.clean_rgb, self.damaged_rgb))
        return Sight(clean, damaged, self.coded[rows], self.chips[rows])

    @torch.no_grad()
    def make(self, count: int, damages: Sequence[Damage] = ()) -> None:
        """Crop, damage and encode `count` new pairs; `damages` are used in turn, if given."""
        first = self.made
        rows: list[torch.Tensor] = []
        windows = []
        for index in range(count):
            cut = crop(self._rng.choice(self._portraits), self._rng)
            damage = damages[index % len(damages)] if damages else draw_damage(self._rng)
            damaged = apply_damage(cut.rgb, damage, self._noise)
            hidden = common.to_tensor(damaged) * torch.from_numpy(~cut.mask)
            rows += [common.to_tensor(cut.rgb), common.to_tensor(damaged), hidden]
            windows.append(self._keep_pictures(cut, damaged))
        latents = self._encode(torch.stack(rows))
        places = [place % self._size for place in range(first, self.made)]
        for place, (y, x), three in zip(places, windows, latents.split(3), strict=True):
            self.clean[place], self.damaged[place], self.masked[place] = three[..., y, x]
        # Of the window alone, since the VAE's group norms look at all that they are shown.
        with self._bfloat16.context():
            coded = decode(self._vae, self.damaged[places].to(self._vae.device))
        self.coded[places] = coded.float().cpu()

    def _keep_pictures(self, cut: Crop, damaged: NDArray[np.uint8]) -> tuple[slice, slice]:
        """Store everything but the latents; the window's rows and columns, in latents."""
        place, self.made = self.made % self._size, self.made + 1
        side = self.clean.shape[-1]
        spare = WORK_PX // FACTOR - side
        # Near the middle, where the face is.
        top, left = (self._rng.randint(spare // 4, spare - spare // 4) for _ in range(2))
        window = (slice(top, top + side), slice(left, left + side))
        y, x = (slice(FACTOR * part.start, FACTOR * part.stop) for part in window)
        for kept, rgb in ((self.clean_rgb, cut.rgb), (self.damaged_rgb, damaged)):
            kept[place] = torch.from_numpy(rgb[y, x]).permute(2, 0, 1)
        self.mask[place, 0] = torch.from_numpy(cut.mask[::FACTOR, ::FACTOR])[window]
        chip = torch.from_numpy(self._finder.find(cut.rgb, cut.box))
        chip[:, 2] -= FACTOR * torch.tensor([float(left), float(top)])
        self.chips[place] = chip
        return window

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, WORK_PX, WORK_PX) → scaled latents, fp32, on the CPU."""
        pixels = pixels.to(self._vae.device, memory_format=torch.channels_last)
        with self._bfloat16.context():
            coded = self._vae.encode(pixels).latent_dist.mean
        scaled: torch.Tensor = coded.float().cpu() * self._vae.config.scaling_factor
        return scaled
