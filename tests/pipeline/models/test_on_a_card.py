"""The CUDA path on a card that is pretended: nothing mixes devices, and the loop never waits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detail_requests import asking
from diffusers import UNet2DConditionModel
from example_calls import DAMAGED
from pretend_cuda import Event, pretending

from pipeline.config_inpainter import InpainterConfig
from pipeline.loading import load
from pipeline.models.sdxl import vae
from pipeline.models.sdxl.inpainter import SdxlInpainter, make_inpainter
from pipeline.models.sdxl.networks import SdxlNetworks, read_networks
from pipeline.types import Image, InpaintJob, SoftMask

# A CPU is slow in half precision, which one of the cases has.
HALF = InpainterConfig(".", "euler", "all", (1, 2, 4, 8, 16))
CONFIG = replace(HALF, precision="float32")
FEW = replace(CONFIG, spacing="trailing", guidance=0.0)
PICTURE = Image(np.ascontiguousarray(DAMAGED.pixels[40:200, 140:300]))


def job(side: int = 32, *, hard: bool = False, **changes) -> InpaintJob:
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    mask = np.clip((0.35 - np.hypot(x, y)) * 6, 0, 1)
    kept = SoftMask((np.round(mask) if hard else mask).astype(np.float32))
    values = {"prompt": "a face", "negative_prompt": "blur", "seed": 7, "steps": 3}
    values |= {"guidance_scale": 6.0, "strength": 0.5, **changes}
    return InpaintJob(Image(pixels), kept, **values)


def four_channels(networks: SdxlNetworks) -> SdxlNetworks:
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config({**networks.unet.config, "in_channels": 4})
    return replace(networks, unet=unet.to(networks.unet.dtype))


class LoopWatch:
    """What the denoise loop's thread copies and waits for, from its first UNet call to its last."""

    def __init__(self, inpainter: SdxlInpainter, events: list[Event]) -> None:
        self._events = events
        self._spans: list[tuple[int, int]] = []
        unet = inpainter.networks["UNet"]
        unet.register_forward_pre_hook(lambda *_: self._spans.append((len(events), 0)))
        unet.register_forward_hook(self._leave)

    def _leave(self, *_: object) -> None:
        self._spans[-1] = (self._spans[-1][0], len(self._events))

    @property
    def calls(self) -> int:
        return len(self._spans)

    def between(self) -> list[Event]:
        seen = self._events[self._spans[0][0] : self._spans[-1][1]]
        return [event for event in seen if event.thread == "denoise-loop"]


# Rows that leave at different steps, of two sizes, guided and not.
MIXED = [
    job(),
    job(seed=8, steps=5, strength=0.9),
    job(hard=True, guidance_scale=1.0),
    job(48, steps=2),
    job(48, hard=True, steps=4, strength=1.0),
]
CASES = {
    "euler": (HALF, "resident", None),
    "offload": (CONFIG, "offload", None),
    "low": (CONFIG, "low", None),
    "karras": (replace(CONFIG, scheduler="dpmpp_2m_karras"), "resident", None),
    "ddim": (replace(CONFIG, scheduler="ddim", step_rule="diffusers"), "resident", None),
    "few steps": (FEW, "resident", four_channels),
    "four channels": (CONFIG, "resident", four_channels),
    "pure noise": (replace(CONFIG, step_rule="diffusers"), "resident", None),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_between_two_unet_calls_there_is_no_copy_and_no_wait(tiny_folder, case):
    config, mode, change = CASES[case]
    with pretending() as events:
        networks = read_networks(tiny_folder, config, "cuda:0")
        inpainter = make_inpainter(change(networks) if change else networks, config, "cuda:0", mode)
        watch = LoopWatch(inpainter, events)
        answers = inpainter.inpaint(MIXED, lambda _index: None, lambda: False)
    assert all(answer is not None for answer in answers)
    assert watch.calls >= 5
    assert watch.between() == []


@pytest.mark.slow
def test_half_a_batch_where_memory_is_short(tiny_folder):
    def refuse(_unet: object, given: tuple[torch.Tensor, ...]) -> None:
        if len(given[0]) > 1:
            raise torch.OutOfMemoryError("too many rows")

    with pretending():
        networks = read_networks(tiny_folder, CONFIG, "cuda:0")
        networks.unet.register_forward_pre_hook(refuse)
        inpainter = make_inpainter(networks, CONFIG, "cuda:0", "resident")
        assert inpainter.inpaint([job()], lambda _index: None, lambda: False)[0] is not None


@pytest.fixture
def profile(tiny_folder, tmp_path):
    """Small, since a CPU is slow in half precision."""

    def write(precision: str) -> Path:
        file = tmp_path / "card.toml"
        passes = "".join(f"[{name}]\nwork_px = [64]\n" for name in ("outline", "detail"))
        file.write_text(
            f'base = "{tiny_folder}/profile.toml"\n{passes}'
            f'[inpainter]\nprecision = "{precision}"\nmirrored = false\nresidual = false\n'
        )
        return file

    return write


def apart(a: Image, b: Image) -> int:
    return int(np.abs(a.pixels.astype(int) - b.pixels).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "precision"),
    [
        ("resident", "float16"),
        ("offload", "float16"),
        ("low", "float16"),
        ("auto", "bfloat16"),
    ],
)
def test_a_whole_walk_mixes_no_devices(profile, monkeypatch, mode, precision):
    """Loaded, warmed up (which enlarges a picture too), and asked to detail a face."""
    # The tiny pictures are far below the tiles of a real card.
    monkeypatch.setattr(vae, "LOW_TILE_PX", 64)
    request = asking(PICTURE, "a face", 0.5)
    with pretending():
        found = load(profile(precision), "cuda:0", mode)(request)
    assert (len(found.faces), found.unchanged) == (1, 0)
    assert apart(found.images[0], PICTURE) > 20
    if mode == "resident":
        on_cpu = load(profile(precision), "cpu")(request)
        assert apart(found.images[0], on_cpu.images[0]) <= 3


def test_texts_of_other_lengths_share_calls_and_change_nothing(tiny_folder):
    networks = read_networks(tiny_folder, CONFIG, "cpu")
    inpainter = make_inpainter(networks, CONFIG, "cpu")
    jobs = [job(prompt="a (red:1.3) face " * 30), job(prompt="x " * 200, negative_prompt="y " * 90)]
    rows = []
    networks.unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    together = inpainter.inpaint(jobs, lambda _index: None, lambda: False)
    assert rows == [4] * 3
    for one, found in zip(jobs, together, strict=True):
        (alone,) = inpainter.inpaint([one], lambda _index: None, lambda: False)
        assert alone is not None
        assert found is not None
        assert apart(alone, found) <= 1
