"""A user's own models: other folders, single files, LoRAs, few steps, by a profile file."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detail_requests import asking
from diffusers import AutoencoderKL, UNet2DConditionModel
from original_layout import single_file
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipeline.config_inpainter import InpainterConfig, LoraConfig
from pipeline.config_reading import read_profile
from pipeline.errors import WeightsError
from pipeline.loading import load
from pipeline.models.sdxl.networks import read_networks, vae_precision
from pipeline.models.sdxl.schedule import make_schedule
from pipeline.types import FaceBox, Image
from weights.manifest import PACKAGE_DIR

CONFIG = InpainterConfig(".", "euler", "all", (1, 2, 4, 8))


def save_own(folder: Path, tiny_folder: Path, channels: int) -> dict[str, torch.nn.Module]:
    """A diffusers folder of other networks than tiny's; the encoders' widths tell them apart."""
    torch.manual_seed(channels)
    sizes = json.loads((tiny_folder / "unet" / "config.json").read_text())
    # In the single file's layout every level has as many layers, as SDXL's have.
    sizes |= {"in_channels": channels, "cross_attention_dim": 40, "layers_per_block": 1}
    text = json.loads((tiny_folder / "text_encoder_2" / "config.json").read_text())
    wide = {"hidden_size": 24, "num_attention_heads": 2, "projection_dim": text["projection_dim"]}
    parts = {
        "unet": UNet2DConditionModel.from_config(sizes),
        "text_encoder": CLIPTextModel.from_pretrained(
            tiny_folder / "text_encoder", torch_dtype=torch.float32
        ),
        "text_encoder_2": CLIPTextModelWithProjection(
            CLIPTextConfig(**{**text, **wide, "dtype": "float32"})
        ),
    }
    for name, network in parts.items():
        network.eval().save_pretrained(folder / name)
    for name in ("vae", "scheduler", "tokenizer", "tokenizer_2"):
        shutil.copytree(tiny_folder / name, folder / name)
    return parts


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("channels", [4, 9])
def test_a_single_file_gives_the_networks_that_the_folder_has(tiny_folder, tmp_path, channels):
    own = save_own(tmp_path, tiny_folder, channels)
    file = tmp_path / "elsewhere" / "mine.safetensors"
    file.parent.mkdir()
    save_file(single_file(*own.values()), file)
    # The folder is one of nine channels, as sdxl's is, whatever the file has.
    sizes = tmp_path / "unet" / "config.json"
    sizes.write_text(json.dumps({**json.loads(sizes.read_text()), "in_channels": 9}))
    config = replace(CONFIG, checkpoint=str(file))
    networks = read_networks(tmp_path, config, "cpu")
    assert networks.unet.config.in_channels == channels
    for found, wanted in zip((networks.unet, *networks.encoders), own.values(), strict=True):
        assert same(found, wanted)


@pytest.mark.parametrize("broken", ["missing", "cut", "other"])
def test_a_broken_single_file_is_refused(tiny_folder, tmp_path, broken):
    file = tmp_path / "mine.safetensors"
    if broken == "cut":
        file.write_bytes(b"\x10" * 100)
    if broken == "other":
        save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        read_networks(tiny_folder, replace(CONFIG, checkpoint=str(file)), "cpu")


@pytest.mark.slow
def test_a_profile_file_with_an_own_checkpoint_details_a_face(tiny_folder, tmp_path):
    own = save_own(tmp_path / "own", tiny_folder, 4)
    save_file(single_file(*own.values()), tmp_path / "mine.safetensors")
    profile = tmp_path / "mine.toml"
    profile.write_text(
        f'base = "{tiny_folder}/profile.toml"\nname = "mine"\n[inpainter]\n'
        f'folder = "{tmp_path}/own"\ncheckpoint = "{tmp_path}/mine.safetensors"\n'
        f'vae = "vae"\n[detail]\ncrop_factor = 1.5\n'
    )
    detailer = load(profile, "cpu")
    assert (detailer.profile.name, detailer.profile.detail.crop_factor) == ("mine", 1.5)
    assert detailer.profile.outline == read_profile(tiny_folder).outline
    image = Image(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    request = asking(image, "a face", 0.4, num_inference_steps=2)
    result = detailer.detail_faces(request, [FaceBox(40, 40, 90, 90, 1.0)])
    assert not np.array_equal(result.images[0].pixels, image.pixels)


TARGET = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_a_lora_is_added_to_the_weights(tiny_folder, tmp_path, layout):
    plain = read_networks(tiny_folder, CONFIG, "cpu")
    before = plain.unet.get_submodule(TARGET).weight
    up, down = torch.randn(before.shape[0], 4), torch.randn(4, before.shape[1])
    if layout == "diffusers":
        state = {f"unet.{TARGET}.lora_A.weight": down, f"unet.{TARGET}.lora_B.weight": up}
        share = 0.5
    else:
        name = f"lora_unet_{TARGET.replace('.', '_')}"
        state = {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{name}.alpha": torch.tensor(2.0),
        }
        share = 0.5 * 2 / 4
    save_file(state, tmp_path / "lora.safetensors")
    loras = (LoraConfig(str(tmp_path / "lora.safetensors"), scale=0.5),)
    merged = read_networks(tiny_folder, replace(CONFIG, loras=loras), "cpu")
    wanted = {**plain.unet.state_dict(), f"{TARGET}.weight": before + share * up @ down}
    found = merged.unet.state_dict()
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert torch.allclose(found[key], wanted[key], atol=1e-5), key


@pytest.fixture
def half_with_a_loud_vae(tiny_folder, tmp_path) -> Callable[[bool], Path]:
    """A profile in float16 whose VAE, as SDXL's own, has activations beyond 65,504: the decoder's
    first layers are a million times as loud, which its norms take back.
    """

    def make(upcast: bool) -> Path:
        vae = AutoencoderKL.from_pretrained(tiny_folder / "vae", torch_dtype=torch.float32)
        with torch.no_grad():
            vae.decoder.conv_in.weight *= 1e3
            vae.post_quant_conv.weight *= 1e3
        vae.register_to_config(force_upcast=upcast)
        vae.save_pretrained(tmp_path / "loud")
        file = tmp_path / "half.toml"
        text = f'vae = "{tmp_path}/loud"\nprecision = "float16"\n'
        file.write_text(f'base = "{tiny_folder}/profile.toml"\n[inpainter]\n{text}')
        return file

    return make


@pytest.mark.slow
def test_a_vae_that_overflows_in_float16_is_not_run_in_it_where_it_says_so(half_with_a_loud_vae):
    detailer = load(half_with_a_loud_vae(True), "cpu")
    networks = detailer._inpainter.networks
    assert networks["UNet"].dtype == torch.float16
    assert next(networks["VAE decoder"].parameters()).dtype == torch.float32
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    request = asking(Image(noise), "", 0.4)
    assert detailer.detail_faces(request, [FaceBox(30, 30, 60, 60, 1.0)]).unchanged == 0


@pytest.mark.slow
def test_weights_whose_repaint_is_not_finite_are_not_served(half_with_a_loud_vae):
    with pytest.raises(WeightsError, match="tiny gives values that are not finite"):
        load(half_with_a_loud_vae(False), "cpu")


@pytest.mark.parametrize(
    ("dtype", "vae", "device", "wanted"),
    [
        (torch.float16, {"force_upcast": False}, "cpu", torch.float16),
        (torch.float16, {"force_upcast": True}, "cpu", torch.float32),
        (torch.float16, {"force_upcast": True}, "meta", torch.bfloat16),
        # diffusers' default.
        (torch.float16, {}, "cpu", torch.float32),
        (torch.bfloat16, {"force_upcast": True}, "cpu", torch.bfloat16),
        (torch.float32, {"force_upcast": True}, "cpu", torch.float32),
    ],
)
def test_the_vaes_precision(dtype, vae, device, wanted):
    assert vae_precision(vae, dtype, device) == wanted


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("fast", 8), ("hyper-sd", 8)])
def test_few_steps_and_no_guidance(tiny_folder, tmp_path, name, steps):
    """The shipped profile's own keys over tiny's, without the LoRA, which is not at hand."""
    shipped = read_profile(PACKAGE_DIR / "sdxl" / f"{name}.toml")
    assert len(shipped.inpainter.loras) == 1
    keys = ("steps", "guidance", "scheduler", "spacing", "mirrored")
    lines = [f"{key} = {json.dumps(getattr(shipped.inpainter, key))}" for key in keys]
    file = tmp_path / "few.toml"
    text = "\n".join(lines)
    file.write_text(f'base = "{tiny_folder}/profile.toml"\n[inpainter]\n{text}\n')
    detailer = load(file, "cpu")
    rows = []
    unet = detailer._inpainter.networks["UNet"]
    unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    told = []
    request = asking(Image(np.zeros((96, 96, 3), np.uint8)), "", 0.4, passes="detail")
    detailer.detail_faces(request, [FaceBox(30, 30, 60, 60, 1.0)], told.append)
    assert rows == [1] * steps
    assert [(now.done, now.total) for now in told if now.step] == [
        (i + 1, steps) for i in range(steps)
    ]


def test_trailing_steps_end_where_noise_is_left(noise_model):
    """Four steps of strength 0.4: none is spent on timestep 0, which has none."""
    even, trailing = (
        make_schedule(noise_model, "euler", 4, 0.4, "all", spacing).timesteps.tolist()
        for spacing in ("linspace", "trailing")
    )
    assert even[-1] == 0
    assert trailing == [399, 299, 199, 99]
