"""A profile of small files on a server that misbehaves on request."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from file_server import FileServer, serving_files
from small_profile import (
    CONFIG_PATH,
    PICKLE_PATH,
    REPO,
    SITE,
    UNET_PATH,
    Profile,
    described,
    pickled,
)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving_files() as running:
        yield running


@pytest.fixture
def profile(server: FileServer, tmp_path: Path) -> Profile:
    unet = random.Random(1).randbytes(300_000)
    config = b'{"in_channels": 9}'
    upscaler = {"conv.weight": torch.arange(12.0).reshape(3, 4), "conv.bias": torch.ones(3).half()}
    checkpoint = pickled({"params_ema": upscaler})
    package = tmp_path / "package"
    (package / "segmenter").mkdir(parents=True)
    (package / "profile.toml").write_text('name = "first"\n')
    (package / "segmenter" / "vit_b.json").write_text("{}")
    server.files = {UNET_PATH: unet, CONFIG_PATH: config, PICKLE_PATH: checkpoint}
    files = [
        described("unet/big.safetensors", "unet/big.fp16.safetensors", REPO, unet),
        described("unet/config.json", "unet/config.json", REPO, config),
        described("upscaler/x2.safetensors", "v1/upscaler.pth", SITE, checkpoint),
    ]
    return Profile(server, tmp_path / "data" / "sdxl", package, unet, config, upscaler, files)
