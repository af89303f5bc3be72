"""An IP-Adapter that is fed with the face: as in diffusers' own pipeline, wherever it runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from beside_unet import (
    NEGATIVE,
    PROMPT,
    SIDE,
    check_card,
    check_company,
    check_compiled,
    check_turns,
    job,
    link_all,
    of_all,
    save_all,
)
from diffusers import StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from small_networks import small, with_channels
from their_samplers import THEIRS
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from pipeline.config_inpainter import InpainterConfig, IpAdapterConfig
from pipeline.errors import WeightsError
from pipeline.models.sdxl.inpainter import load_inpainter
from pipeline.models.sdxl.ip_adapter import face_of
from pipeline.models.sdxl.networks import read_networks
from pipeline.types import SoftMask

TOKENS, SEEN_PX = 4, 32
SCALE = 0.8
ADAPTER = IpAdapterConfig("ip-adapter.safetensors", "image_encoder", SCALE)
CONFIG = InpainterConfig(".", "euler", "all", (1, 2, 4, 8), ip_adapter=ADAPTER, precision="float32")
BARE = replace(CONFIG, ip_adapter=None)


def new_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(2)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=SEEN_PX,
            patch_size=8,
            projection_dim=16,
        )
    )


def new_adapter(unet: UNet2DConditionModel, seen: int = 24) -> dict[str, torch.Tensor]:
    """In the original layout, with keys that make themselves heard."""
    torch.manual_seed(3)
    width = unet.config.cross_attention_dim
    resampler = IPAdapterPlusImageProjection(seen, width, 64, 4, 64, 1, TOKENS)
    weights = {f"image_proj.{original(name)}": value for name, value in joined(resampler)}
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            hidden = unet.get_submodule(name.removesuffix(".processor")).query_dim
            for key in ("to_k_ip", "to_v_ip"):
                weights[f"ip_adapter.{index}.{key}.weight"] = torch.randn(hidden, width)
    return {name: value.contiguous() for name, value in weights.items()}


def joined(resampler: torch.nn.Module):
    """Keys and values in one tensor, as in the files."""
    weights = resampler.state_dict()
    for name, value in weights.items():
        if name.endswith("to_k.weight"):
            other = weights[name.replace("to_k", "to_v")]
            yield name.replace("to_k", "to_kv"), torch.cat([value, other])
        elif not name.endswith("to_v.weight"):
            yield name, value


def original(name: str) -> str:
    """What the files call a tensor of diffusers' resampler."""
    for ours, theirs in (
        (".ln0.", ".0.norm1."),
        (".ln1.", ".0.norm2."),
        (".attn.to_out.0.", ".0.to_out."),
        (".attn.", ".0."),
        (".ff.0.", ".1.0."),
        (".ff.1.net.0.proj.", ".1.1."),
        (".ff.1.net.2.", ".1.3."),
    ):
        name = name.replace(ours, theirs)
    return name


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory) -> Path:
    """A profile's networks, and an adapter beside them."""
    root = tmp_path_factory.mktemp("adapted")
    link_all(tiny_folder, root)
    networks = small(read_networks(tiny_folder, BARE, "cpu"))
    own = {"unet": networks.unet, "vae": networks.vae, "image_encoder": new_encoder()}
    save_all(own, root)
    save_file(new_adapter(networks.unet), root / ADAPTER.file)
    return root


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m_karras", "ddim"])
def test_it_paints_what_diffusers_pipeline_paints(folder, scheduler_config, name):
    config = replace(CONFIG, scheduler=name, step_rule="diffusers", unet="four")
    four = with_channels(read_networks(folder, BARE, "cpu").unet, 4)
    four.save_pretrained(folder / "four")
    ours = load_inpainter(folder, config, "cpu")
    order = of_all()
    with torch.inference_mode():
        (canvas,) = ours._canvases([order])
        trajectory = ours._start(order, canvas)
    ours._loop.run([trajectory], lambda _index: None, lambda: False)

    bare = read_networks(folder, replace(BARE, unet="four"), "cpu")
    scheduler_class, options = THEIRS[name]
    pipeline = StableDiffusionXLImg2ImgPipeline(
        bare.vae,
        *bare.encoders,
        *bare.tokenizers,
        bare.unet,
        scheduler_class.from_config(scheduler_config, **options),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder"),
        feature_extractor=CLIPImageProcessor(size=SEEN_PX, crop_size=SEEN_PX),
    )
    pipeline.load_ip_adapter(folder, subfolder="", weight_name=ADAPTER.file, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def painted(scale: float) -> torch.Tensor:
        pipeline.set_ip_adapter_scale(scale)
        return pipeline(
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            image=canvas.latents,
            ip_adapter_image=Pillow.fromarray(order.image.pixels),
            num_inference_steps=order.steps,
            strength=order.strength,
            guidance_scale=order.guidance_scale,
            generator=torch.Generator().manual_seed(order.seed),
            original_size=(SIDE, SIDE),
            target_size=(SIDE, SIDE),
            output_type="latent",
        ).images

    assert (trajectory.latents - painted(SCALE)).abs().max() <= 1e-4
    assert (trajectory.latents - painted(0.0)).abs().max() > 1e-2


def test_each_face_is_told_of_whoever_shares_the_call(folder):
    check_company(folder, CONFIG)


@pytest.mark.parametrize(
    ("rows", "columns", "face"),
    [
        (slice(10, 20), slice(4, 10), (slice(10, 20), slice(2, 12))),
        (slice(0, 8), slice(60, 64), (slice(0, 8), slice(56, 64))),
        (slice(0, 0), slice(0, 0), (slice(0, 64), slice(0, 64))),
    ],
)
def test_it_sees_the_square_around_what_is_repainted(rows, columns, face):
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[rows, columns] = 0.7
    order = job(mask=SoftMask(mask))
    assert np.array_equal(face_of(order), order.image.pixels[face])


def test_of_networks_that_take_turns_it_takes_one_before_the_first_step(folder):
    turns, networks = check_turns(folder, CONFIG)
    assert turns.count((networks["IP-Adapter"],)) == 1
    assert turns.index((networks["IP-Adapter"],)) < turns.index((networks["UNet"],))


@pytest.mark.parametrize(("mode", "least"), [("regional", 1), ("full", 3)])
@pytest.mark.slow
def test_compiled_it_paints_the_same(folder, mode, least):
    check_compiled(folder, CONFIG, mode, least)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["resident", "offload", "low"])
def test_a_card_tells_of_it_too(folder, mode):
    check_card(folder, CONFIG, mode)


def test_its_weight_is_the_profiles(folder):
    unet = read_networks(folder, CONFIG, "cpu").unet
    scales = [
        processor.scale
        for processor in unet.attn_processors.values()
        if isinstance(processor, IPAdapterAttnProcessor2_0)
    ]
    assert scales
    assert all(scale == [SCALE] for scale in scales)


def without_keys(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    last = max(name for name in weights if name.endswith("to_k_ip.weight"))
    return {name: value for name, value in weights.items() if name != last}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w | {"noise.weight": torch.zeros(1)}, "is no IP-Adapter: it has noise.weight"),
        (lambda _: {"image_proj.proj.weight": torch.zeros(1)}, "of the kind plus"),
        (
            lambda w: w | {"image_proj.perceiver_resampler.proj_in.weight": torch.zeros(1)},
            "of the kind plus",
        ),
        (without_keys, "not made for this UNet"),
        (
            lambda w: w | {"image_proj.proj_in.weight": torch.zeros(64, 20)},
            "not made for the image encoder in image_encoder",
        ),
    ],
)
def test_one_that_does_not_fit_is_refused(folder, tmp_path, change, says):
    link_all(folder, tmp_path, but=ADAPTER.file)
    save_file(change(load_file(folder / ADAPTER.file)), tmp_path / ADAPTER.file)
    with pytest.raises(WeightsError, match=says):
        read_networks(tmp_path, CONFIG, "cpu")


@pytest.mark.parametrize("missing", [ADAPTER.file, ADAPTER.encoder])
def test_one_that_is_missing_is_told(folder, tmp_path, missing):
    link_all(folder, tmp_path, but=missing)
    with pytest.raises(WeightsError, match=missing):
        read_networks(tmp_path, CONFIG, "cpu")
