"""Little memory: networks that take turns, pictures in tiles, batches that are halved."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from pipeline.config import InpainterConfig
from pipeline.errors import OutOfMemory
from pipeline.models import latents
from pipeline.models.memory import NetworkMemory, suitable
from pipeline.models.networks import fuse_attention, read_networks
from pipeline.models.sdxl import SdxlInpainter, make_inpainter
from pipeline.types import Image, InpaintJob, SoftMask

CONFIG = InpainterConfig(".", "euler", "all", (1, 2, 4, 8))
GIB = 2**30


class TightUNet(UNet2DConditionModel):
    """As on a card whose memory holds `most` rows."""

    most = 8
    seen: list[int]

    def forward(self, sample, *arguments, **options):
        if len(sample) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.seen.append(len(sample))
        return super().forward(sample, *arguments, **options)


def jobs(count: int = 3, side: int = 64) -> list[InpaintJob]:
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.float32)
    mask[16:48, 16:48] = 1
    return [
        InpaintJob(Image(picture), SoftMask(mask), f"face {seed}", "", seed, 2, 6.0, 0.5)
        for seed, picture in enumerate(pictures)
    ]


def run(inpainter: SdxlInpainter, orders: list[InpaintJob]) -> np.ndarray:
    answers = inpainter.inpaint(orders, lambda: None, lambda: False)
    return np.stack([answer.pixels for answer in answers if answer is not None]).astype(int)


@pytest.fixture
def networks(tiny_folder):
    return read_networks(tiny_folder, CONFIG, torch.float32)


@pytest.fixture
def tight(tiny_folder, networks) -> tuple[SdxlInpainter, TightUNet]:
    unet = TightUNet.from_pretrained(tiny_folder / "unet")
    unet.seen = []
    return make_inpainter(replace(networks, unet=unet), CONFIG, "cpu"), unet


def test_what_does_not_fit_is_halved_and_remembered(tight, caplog):
    inpainter, unet = tight
    plenty = run(inpainter, jobs())
    assert unet.seen == [8, 8]
    unet.seen.clear()
    unet.most = 2
    with caplog.at_level(logging.WARNING):
        little = run(inpainter, jobs())
    assert np.abs(plenty - little).max() <= 1
    # Six rows, padded to eight.
    assert unet.seen == [2] * 8
    assert [record.args[2] for record in caplog.records] == [4, 2]
    caplog.clear()
    run(inpainter, jobs())
    assert caplog.records == []


def test_where_nothing_fits_it_says_so_and_serves_on(tight):
    inpainter, unet = tight
    unet.most = 0
    with pytest.raises(OutOfMemory, match=r"does not hold one row of .*unet"):
        run(inpainter, jobs())
    unet.most = 8
    assert len(run(inpainter, jobs())) == 3


def test_networks_that_take_turns_give_the_same_bytes(tiny_folder, networks):
    resident = run(make_inpainter(networks, CONFIG, "cpu", "resident"), jobs())
    others = read_networks(tiny_folder, CONFIG, torch.float32)
    assert np.array_equal(run(make_inpainter(others, CONFIG, "cpu", "offload"), jobs()), resident)


def test_no_two_networks_are_on_the_device_at_a_time():
    first, second = torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(4)
    before = first.weight.clone()
    memory = NetworkMemory([first, second], torch.device("meta"), one_at_a_time=True)

    def where() -> tuple[str, str]:
        return first.weight.device.type, second.running_mean.device.type

    assert where() == ("cpu", "cpu")
    with torch.inference_mode(), memory.using(first):
        assert where() == ("meta", "cpu")
    with memory.using(second):
        assert where() == ("cpu", "meta")
    assert torch.equal(first.weight, before)


def test_low_memory_codes_pictures_in_tiles(networks, monkeypatch):
    # The tiny pictures are far below the tiles of a real card.
    monkeypatch.setattr(latents, "LOW_TILE_PX", 64)
    inpainter = make_inpainter(networks, CONFIG, "cpu", "low")
    seen = []
    networks.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    assert len(run(inpainter, jobs(2, side=128))) == 2
    assert {(shape[0], shape[2] <= 16, shape[3] <= 16) for shape in seen} == {(1, True, True)}


@pytest.mark.parametrize(
    ("card_gib", "mode"), [(80, "resident"), (16, "resident"), (12, "offload"), (8, "low")]
)
def test_sdxl_on_common_cards(card_gib, mode):
    """Half a GiB is CUDA's own; the inpainter's networks have 6.5."""
    assert suitable(int((card_gib - 0.5) * GIB), int(6.5 * GIB)) == mode


def test_fused_attention_is_the_same_attention(tiny_folder):
    plain, fused = (UNet2DConditionModel.from_pretrained(tiny_folder / "unet") for _ in range(2))
    fuse_attention(fused)
    assert not any(".to_k." in name or ".to_v." in name for name in fused.state_dict())
    sizes = [sum(p.numel() for p in unet.parameters()) for unet in (plain, fused)]
    assert sizes[0] == sizes[1]
    generator = torch.Generator().manual_seed(0)
    sample, context, pooled = (
        torch.randn(*shape, generator=generator) for shape in ((2, 9, 8, 8), (2, 77, 32), (2, 16))
    )
    added = {"text_embeds": pooled, "time_ids": torch.full((2, 6), 64.0)}
    with torch.inference_mode():
        a, b = (
            unet(sample, 500, context, added_cond_kwargs=added).sample for unet in (plain, fused)
        )
    assert torch.allclose(a, b, atol=1e-5)
