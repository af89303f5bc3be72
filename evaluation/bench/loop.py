"""What the denoise loop itself takes of a step: its Python, and its sums over the latents."""

import time

import torch

from pipeline.models.sdxl.batch import UNetRows
from pipeline.models.sdxl.loop import DenoiseLoop
from pipeline.models.sdxl.schedule import make_schedule, read_noise_model
from pipeline.models.sdxl.text import Conditioning
from pipeline.models.sdxl.trajectory import Canvas, DenoiseTrajectory

# SDXL's text: tokens, width, pooled width.
TOKENS, WIDTH, POOLED = 77, 2048, 1280
LOOP_ROWS, LOOP_STEPS = 8, 100


def loop_seconds(rows: int, side: int, steps: int, device: str) -> float:
    """Seconds a step with a UNet that answers at once.

    Args:
        rows: of a UNet call, even: half as many guided faces.
        side: latent pixels a side, an eighth of the work picture's.
        steps: over how many the mean is taken, after a few that are not counted.
        device: as torch names it.
    """
    answer = torch.zeros(rows, 4, side, side, device=device)
    started: list[float] = []

    def predict(_given: UNetRows) -> torch.Tensor:
        started.append(time.perf_counter())
        return answer

    faces = [_face(seed, side, steps + 3, device) for seed in range(rows // 2)]
    DenoiseLoop(predict, rows).run(faces, lambda _index: None, lambda: False)
    return (started[-1] - started[2]) / (len(started) - 3)


def _face(seed: int, side: int, steps: int, device: str) -> DenoiseTrajectory:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    picture, noise = draw(1, 4, side, side), draw(1, 4, side, side)
    canvas = Canvas(picture, torch.sigmoid(draw(1, 1, side, side)), None, noise)
    text = Conditioning(draw(1, TOKENS, WIDTH), draw(1, POOLED))
    noise_model = read_noise_model({"beta_schedule": "scaled_linear"})
    schedule = make_schedule(noise_model, "euler", steps, 0.4, "all")
    return DenoiseTrajectory(canvas, schedule, text, text, 6.0, told_px=1024)
