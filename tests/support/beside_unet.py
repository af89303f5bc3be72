"""What the tests of networks beside the UNet share: a profile's folder that has one, jobs, and what
holds of each such network wherever it runs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretend_cuda import pretending

from pipeline.config_inpainter import InpainterConfig
from pipeline.models.sdxl.compiling import CompileMode, compile_networks
from pipeline.models.sdxl.inpainter import SdxlInpainter, load_inpainter, make_inpainter
from pipeline.models.sdxl.memory import MemoryMode
from pipeline.models.sdxl.networks import read_networks
from pipeline.types import Image, InpaintJob, SoftMask

SIDE = 64
PROMPT, NEGATIVE = "a woman, detailed face", "blur"


def link_all(source: Path, root: Path, but: str = "") -> None:
    """The parts of a profile's folder in another one; `but`: without this."""
    for part in source.iterdir():
        if part.name != but:
            (root / part.name).symlink_to(part)


def save_all(networks: Mapping[str, Any], root: Path) -> None:
    """Networks in the place of those of their names."""
    for name, network in networks.items():
        (root / name).unlink(missing_ok=True)
        network.save_pretrained(root / name)


def job(seed: int = 7, side: int = SIDE, **changes: Any) -> InpaintJob:
    """Of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    # Of one that hides all, random networks would make anything.
    mask = np.zeros((side, side), np.float32)
    mask[side // 4 :, side // 4 :] = 1
    values: dict[str, Any] = {
        "image": Image(pixels),
        "mask": SoftMask(mask),
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "seed": seed,
        "steps": 4,
        "guidance_scale": 6.0,
        "strength": 0.6,
    }
    return InpaintJob(**{**values, **changes})


def of_all(**changes: Any) -> InpaintJob:
    """One that repaints all of its crop, as diffusers' pipelines do."""
    return job(mask=SoftMask(np.ones((SIDE, SIDE), np.float32)), **changes)


def run(inpainter: SdxlInpainter, *jobs: InpaintJob) -> list[np.ndarray]:
    """Their pictures."""
    answers = inpainter.inpaint(jobs, lambda _index: None, lambda: False)
    return [answer.pixels.astype(int) for answer in answers if answer is not None]


def check_company(folder: Path, config: InpainterConfig) -> None:
    """Whoever shares a call gets what it gets alone."""
    inpainter = load_inpainter(folder, config, "cpu")
    jobs = [job(1), job(2, guidance_scale=1.0), job(3, side=48), job(4, steps=2)]
    alone = [run(inpainter, one)[0] for one in jobs]
    for one, other in zip(run(inpainter, *jobs), alone, strict=True):
        assert np.abs(one - other).max() <= 1


def check_turns(
    folder: Path, config: InpainterConfig
) -> tuple[list[tuple[torch.nn.Module, ...]], dict[str, torch.nn.Module]]:
    """In offload it paints what it paints with all on the device; which networks were there
    together, in their order, and all by name.
    """
    inpainter = load_inpainter(folder, config, "cpu", "offload")
    turns, using = [], inpainter._memory.using

    def seen(*networks: torch.nn.Module) -> Any:
        turns.append(networks)
        return using(*networks)

    inpainter._memory.using = seen
    offload = run(inpainter, job(), job(8))
    resident = run(load_inpainter(folder, config, "cpu", "resident"), job(), job(8))
    assert np.array_equal(resident, offload)
    return turns, inpainter.networks


def check_compiled(folder: Path, config: InpainterConfig, mode: CompileMode, least: int) -> None:
    """Compiled it paints the same, by `least` graphs or more, and none is made afterwards."""
    config = replace(config, batch_sizes=(1, 2))
    plain = run(load_inpainter(folder, config, "cpu"), job())
    prepared = read_networks(folder, config, "cpu")
    graphs = []

    def count(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    try:
        compile_networks(
            prepared.unet, prepared.vae.decoder, mode, control=prepared.control, backend=count
        )
        compiled = make_inpainter(prepared, config, "cpu", compiled=mode)
        compiled.compile_for([SIDE])
        made = len(graphs)
        torch.compiler.set_stance("fail_on_recompile")
        assert np.abs(run(compiled, job())[0] - plain[0]).max() <= 1
    finally:
        torch.compiler.set_stance("default")
        torch.compiler.reset()
    assert made >= least
    assert len(graphs) == made


def check_card(folder: Path, config: InpainterConfig, mode: MemoryMode) -> None:
    """It paints on a card, in half precision."""
    with pretending():
        inpainter = load_inpainter(folder, replace(config, precision="float16"), "cuda:0", mode)
        assert inpainter.inpaint([job(), job(8)], lambda _index: None, lambda: False)[1] is not None
