"""Shared by all training commands: options, the held-out split, a time budget, checkpoints."""

import argparse
import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training import workers
from training.optimizer import MuonWithAdamW
from weights.files import replacing
from weights.manifest import PACKAGE_DIR

TINY_DIR = PACKAGE_DIR / "tiny"

# Every tenth picture, in file-name order, is held out: 153 of the 1,530 portraits.
VALIDATION_EVERY = 10


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one training command."""

    data: Path
    minutes: float
    device: torch.device
    work_dir: Path
    seed: int
    from_exported: bool


def parse_options(
    name: str, description: str, default_minutes: float, *, may_go_on: bool = False
) -> Options:
    """Parse the command line that all training commands share.

    `may_go_on`: whether the command can start from the exported weights.
    """
    parser = argparse.ArgumentParser(prog=f"python -m training.{name}", description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with faces/*.jpg")
    parser.add_argument(
        "--minutes",
        type=float,
        default=default_minutes,
        help="training time, resumed runs included",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 …")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("build/training"), help="checkpoints and caches"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    parser.add_argument("--seed", type=int, default=0)
    if may_go_on:
        parser.add_argument(
            "--from-exported",
            action="store_true",
            help="start from the exported weights if there is no checkpoint to resume",
        )
    values = parser.parse_args()
    device = values.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(values.threads)
    torch.manual_seed(values.seed)
    work_dir = values.work_dir / name
    work_dir.mkdir(parents=True, exist_ok=True)
    return Options(
        values.data,
        values.minutes,
        torch.device(device),
        work_dir,
        values.seed,
        from_exported=may_go_on and values.from_exported,
    )


def face_files(data: Path, *, validation: bool) -> list[Path]:
    """The portraits of one side of the split, in file-name order.

    Raises:
        FileNotFoundError: `data/faces` contains no JPEG.
    """
    files = sorted((data / "faces").glob("*.jpg"))
    if not files:
        raise FileNotFoundError(f"no portraits (faces/*.jpg) in {data}")
    return [
        file for index, file in enumerate(files) if (index % VALIDATION_EVERY == 0) == validation
    ]


def load_rgb(file: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB."""
    with Image.open(file) as picture:
        return np.ascontiguousarray(picture.convert("RGB"))


def to_tensor(rgb: NDArray[np.uint8]) -> torch.Tensor:
    """(H, W, 3) uint8 → (3, H, W) float32 in [−1, 1], the input of a VAE."""
    return torch.from_numpy(rgb.astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)


@dataclass
class Budget:
    """A training budget in seconds of work, kept across resumed runs.

    Preparation before the first step is not counted. The learning rate is a function of the share
    already spent, so an interrupted and resumed run follows the same curve: a linear warm-up over
    the first 2 %, then a half cosine down to zero.
    """

    seconds: float
    spent_s: float = 0.0
    _started: float | None = None
    _share: float = 0.0

    def elapsed_s(self) -> float:
        """Seconds of work, in this run and the ones before it."""
        return self.spent_s + (0 if self._started is None else time.monotonic() - self._started)

    def share(self) -> float:
        """The share spent when the current step began, 0–1; the same in all processes."""
        return self._share

    def learning_rate(self, peak: float) -> float:
        """The learning rate at this point of the budget."""
        share = self.share()
        return peak * min(1.0, share / 0.02 + 0.01) * 0.5 * (1 + math.cos(math.pi * share))

    def steps(self) -> Iterator[int]:
        """Count steps until the budget is spent."""
        self._started = time.monotonic()
        for step in itertools.count():
            self._share = workers.agree(min(1.0, self.elapsed_s() / self.seconds))
            if self._share == 1:
                return
            yield step


Optimizer: TypeAlias = torch.optim.Optimizer | MuonWithAdamW


def save(state: dict[str, Any], file: Path) -> None:
    """Write beside, then rename: a cut leaves the old file whole."""
    with replacing(file) as part:
        torch.save(state, part)


@dataclass
class Checkpoint:
    """One file with everything a resumed run needs; read only on the machine that wrote it."""

    file: Path

    def load(self, model: torch.nn.Module, optimizer: Optimizer, budget: Budget) -> bool:
        """Restore the state in place; False if there is nothing to resume."""
        if not self.file.exists():
            return False
        state = torch.load(self.file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        budget.spent_s = state["spent_s"]
        print(f"resumed {self.file} at {budget.spent_s / 60:.1f} min", flush=True)
        return True

    def save(self, model: torch.nn.Module, optimizer: Optimizer, budget: Budget) -> None:
        """Write the state of all three."""
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "spent_s": budget.elapsed_s(),
        }
        save(state, self.file)


Tensors: TypeAlias = tuple[torch.Tensor, ...] | list[torch.Tensor]


class Average:
    """An exponential moving average of a model's parameters, which is what gets exported."""

    def __init__(self, model: torch.nn.Module, decay: float = 0.998) -> None:
        self.decay = decay
        self.steps = 0
        self.model = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=self._move)

    def update(self, model: torch.nn.Module) -> None:
        """Add the model's current parameters to the average."""
        self.model.update_parameters(model)

    @torch.no_grad()
    def _move(self, averages: Tensors, values: Tensors, _count: torch.Tensor | int) -> None:
        self.steps += 1
        # A young average decays faster, or the random initial weights would linger in it.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(averages, values, 1 - decay)


def take_step(
    loss: torch.Tensor,
    model: torch.nn.Module,
    optimizer: Optimizer,
    average: Average,
    *,
    rate: float,
    clip: float,
) -> None:
    """Take one optimizer step and update the average.

    Each parameter group's learning rate is `rate` times its `rate_share` (default 1). `clip`: the
    largest gradient norm that is not clipped.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    workers.share_gradients(model)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_share", 1.0)
    optimizer.step()
    average.update(model)
