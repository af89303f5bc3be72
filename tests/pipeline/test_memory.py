"""Little memory: networks that take turns, pictures in tiles, batches that are halved."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from detail_requests import asking
from diffusers import UNet2DConditionModel

from pipeline.config_inpainter import InpainterConfig
from pipeline.errors import OutOfMemory
from pipeline.loading import load
from pipeline.models.sdxl import vae as latents
from pipeline.models.sdxl.inpainter import SdxlInpainter, make_inpainter
from pipeline.models.sdxl.memory import NetworkMemory, suitable
from pipeline.models.sdxl.networks import fuse_attention, read_networks
from pipeline.types import FaceBox, Image, InpaintJob, SoftMask

CONFIG = InpainterConfig(".", "euler", "all", (1, 2, 4, 8))
GIB = 2**30


class TightUNet(UNet2DConditionModel):
    """As on a card whose memory holds `most` rows."""

    most = 8
    seen: list[int]
    failures = 0

    def forward(self, sample, *arguments, **options):
        if len(sample) > self.most:
            self.failures += 1
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
    answers = inpainter.inpaint(orders, lambda _index: None, lambda: False)
    return np.stack([answer.pixels for answer in answers if answer is not None]).astype(int)


@pytest.fixture
def networks(tiny_folder):
    return read_networks(tiny_folder, CONFIG, "cpu")


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
    # Six rows, of which none is there to pad.
    assert unet.seen == [2] * 6
    assert [record.args[2] for record in caplog.records] == [4, 2]
    caplog.clear()
    run(inpainter, jobs())
    assert caplog.records == []


def test_every_part_is_padded_by_itself(tight):
    inpainter, unet = tight
    unet.most = 4
    assert len(run(inpainter, jobs())) == 3
    assert unet.seen == [4, 2] * 2


def test_padding_rows_reach_nobody(networks):
    """They are poisoned after the call, as if they had gone wrong."""
    config = replace(CONFIG, batch_sizes=(1, 2, 4, 8, 16))
    inpainter = make_inpainter(networks, config, "cpu")
    wanted = run(inpainter, jobs(5))

    def poison(_unet, _given, answer):
        assert len(answer[0]) == 16
        return (torch.cat([answer[0][:10], torch.full_like(answer[0][10:], torch.nan)]),)

    networks.unet.register_forward_hook(poison)
    assert np.abs(run(inpainter, jobs(5)) - wanted).max() <= 1


@pytest.mark.slow
def test_batches_grow_again_when_memory_is_free_again(tight):
    inpainter, unet = tight
    unet.most = 1
    run(inpainter, jobs())
    unet.most = 8
    calls = []
    for _ in range(40):
        unet.seen.clear()
        run(inpainter, jobs())
        calls.append(len(unet.seen))
        if unet.seen == [8, 8]:
            break
    assert calls[0] == 12
    assert calls[-1] == 2
    assert calls == sorted(calls, reverse=True)


@pytest.mark.slow
def test_a_retry_that_fails_costs_a_request_nothing_and_gets_rare(tight, caplog):
    inpainter, unet = tight
    unet.most = 2
    wanted = run(inpainter, jobs())
    before = unet.failures
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        failures = []
        for _ in range(40):
            assert np.abs(run(inpainter, jobs()) - wanted).max() <= 1
            failures.append(unet.failures - before)
    # Six calls of two rows each: about 240, and retries after 32, 64, 128 …
    assert failures[-1] == 3
    assert len(caplog.records) == 3


def test_where_nothing_fits_it_says_so_and_serves_on(tight):
    inpainter, unet = tight
    unet.most = 0
    with pytest.raises(OutOfMemory, match=r"does not hold one row of .*unet"):
        run(inpainter, jobs())
    unet.most = 8
    assert len(run(inpainter, jobs())) == 3


def test_networks_that_take_turns_give_the_same_bytes(tiny_folder, networks):
    resident = run(make_inpainter(networks, CONFIG, "cpu", "resident"), jobs())
    others = read_networks(tiny_folder, CONFIG, "cpu")
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


def test_what_does_not_fit_leaves_nothing_behind():
    first, second, large = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2), torch.nn.Linear(4, 4)
    device = torch.device("meta")
    memory = NetworkMemory([first, second, large], device, one_at_a_time=True)

    def where() -> list[str]:
        return [network.weight.device.type for network in (first, second, large)]

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    with torch.inference_mode():
        with memory.using(first):
            pass
        bring = memory._bring
        memory._bring = lambda network: refuse() if network is large else bring(network)
        with pytest.raises(torch.OutOfMemoryError), memory.using(second, large):
            pass
        assert where() == ["cpu", "cpu", "cpu"]
        with memory.using(first):
            assert where() == ["meta", "cpu", "cpu"]


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


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "side"), [("low", 64), ("resident", 128)])
def test_where_memory_is_low_a_profile_works_at_its_sizes_for_that(
    tiny_folder, tmp_path, mode, side
):
    file = tmp_path / "mine.toml"
    sizes = "work_px = [128]\nlow_work_px = [64]\n"
    file.write_text(f'base = "{tiny_folder}/profile.toml"\n[outline]\n{sizes}[detail]\n{sizes}')
    detailer = load(file, "cpu", mode)
    crops = []
    encoder = detailer._inpainter.networks["VAE encoder"]
    encoder.register_forward_pre_hook(lambda _, given: crops.append(given[0].shape[-1]))
    image = Image(np.zeros((96, 96, 3), np.uint8))
    detailer.detail_faces(asking(image, num_inference_steps=1), [FaceBox(30, 30, 60, 60, 1.0)])
    assert set(crops) == {side}
