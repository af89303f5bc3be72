"""Compiled networks paint what they paint otherwise, and no request waits for a compiler."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_networks import small

from pipeline.config_inpainter import InpainterConfig
from pipeline.models.sdxl.compiling import compile_networks
from pipeline.models.sdxl.inpainter import SdxlInpainter, make_inpainter
from pipeline.models.sdxl.networks import SdxlNetworks, read_networks
from pipeline.types import Image, InpaintJob, SoftMask

CONFIG = InpainterConfig(".", "euler", "all", (1, 2), precision="float32")
SIDES = (32,)
LONG = "a face, " * 60


class Counting:
    """Runs graphs as they are, and counts the graphs and how often they are run."""

    def __init__(self) -> None:
        self.graphs = self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]):
        self.graphs += 1

        def run(*inputs: torch.Tensor) -> object:
            self.runs += 1
            return graph.forward(*inputs)

        return run


@pytest.fixture
def counting() -> Iterator[Counting]:
    yield Counting()
    torch.compiler.set_stance("default")
    torch.compiler.reset()


def job(side: int, **changes) -> InpaintJob:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    values = {"prompt": "a face", "negative_prompt": "blur", "seed": 7, "steps": 3}
    values |= {"guidance_scale": 6.0, "strength": 0.6, **changes}
    return InpaintJob(Image(pixels), SoftMask(np.ones((side, side), np.float32)), **values)


def paint(inpainter: SdxlInpainter, jobs: list[InpaintJob]) -> list[Image]:
    painted = inpainter.inpaint(jobs, lambda _index: None, lambda: False)
    return [image for image in painted if image is not None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "memory"), [("regional", "resident"), ("regional", "offload"), ("full", "resident")]
)
def test_compiled_networks_paint_the_same(tiny_folder, counting, mode, memory):
    def networks() -> SdxlNetworks:
        return small(read_networks(tiny_folder, CONFIG, "cpu"))

    jobs = [job(32), job(32, steps=5), job(32, guidance_scale=1.0)]
    long = [job(32, prompt=LONG), job(40)]
    plain = make_inpainter(networks(), CONFIG, "cpu", memory)
    wanted, wanted_long = paint(plain, jobs), paint(plain, long)

    prepared = networks()
    compile_networks(prepared.unet, prepared.vae.decoder, mode, backend=counting)
    compiled = make_inpainter(prepared, CONFIG, "cpu", memory, mode)
    compiled.compile_for(SIDES)
    graphs, runs = counting.graphs, counting.runs
    assert graphs > 0
    torch.compiler.set_stance("fail_on_recompile")
    found = paint(compiled, jobs)
    paint(compiled, [job(32, guidance_scale=1.0), job(32, guidance_scale=1.0)])
    assert counting.runs > runs
    for image, other in zip(found, wanted, strict=True):
        assert np.abs(image.pixels.astype(int) - other.pixels).max() <= 1

    torch.compiler.set_stance("eager_on_recompile")
    for image, other in zip(paint(compiled, long), wanted_long, strict=True):
        assert np.abs(image.pixels.astype(int) - other.pixels).max() <= 1
    assert counting.graphs == graphs
