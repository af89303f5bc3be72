"""LoRAs of every kind and spelling, against the formulas, diffusers and PEFT."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from original_layout import single_file
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.config_inpainter import InpainterConfig
from pipeline.config_inpainter import LoraConfig as OwnLora
from pipeline.errors import WeightsError
from pipeline.models.sdxl.lora import merge_lora
from pipeline.models.sdxl.lora_names import layers_by_name
from pipeline.models.sdxl.networks import SdxlNetworks, read_networks

CONFIG = InpainterConfig(".", "euler", "all", (1,))
QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
FIRST = "encoder.layers.0.self_attn.q_proj"
SECOND = "text_model.encoder.layers.1.mlp.fc1"

Tensors = dict[str, torch.Tensor]
Merge = Callable[..., Tensors]


@pytest.fixture(scope="module")
def plain(tiny_folder) -> SdxlNetworks:
    return read_networks(tiny_folder, CONFIG, "cpu")


def weights_of(*networks: torch.nn.Module) -> Tensors:
    return {
        f"{part} {name.removesuffix('.weight')}": value
        for part, network in zip(("unet", "te1", "te2"), networks, strict=True)
        for name, value in network.state_dict().items()
    }


def copied(networks: SdxlNetworks) -> tuple[torch.nn.Module, ...]:
    return deepcopy((networks.unet, *networks.encoders))


@pytest.fixture
def merge(tmp_path, plain) -> Merge:
    """Merges a LoRA of these tensors; the weights that it changed."""
    before = weights_of(plain.unet, *plain.encoders)

    def run(tensors: Tensors, scale: float = 1.0, header: dict[str, str] | None = None) -> Tensors:
        file = tmp_path / "own.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, file, header)
        networks = copied(plain)
        merge_lora(networks, file, scale)
        found = weights_of(*networks)
        return {key: value for key, value in found.items() if not torch.equal(value, before[key])}

    return run


@pytest.fixture
def refused(merge) -> Callable[..., str]:
    def run(tensors: Tensors, **options: object) -> str:
        with pytest.raises(WeightsError) as error:
            merge(tensors, **options)
        sentence = str(error.value)
        assert "\n" not in sentence
        assert "own.safetensors" in sentence
        return sentence.partition("cannot be used: ")[2]

    return run


def unet_weight(plain: SdxlNetworks, layer: str) -> torch.Tensor:
    return plain.unet.get_submodule(layer).weight.detach().clone()


def pair(weight: torch.Tensor, rank: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """up and down for a weight, as convolutions where it is one."""
    torch.manual_seed(rank)
    up = torch.randn(weight.shape[0], rank, *[1] * (weight.ndim - 2))
    return up, torch.randn(rank, *weight.shape[1:])


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() < 1e-4)


# --- spellings ---


SPELLINGS = {
    "kohya": "lora_unet_{flat}.lora_{down}.weight",
    "diffusers": "unet.{dotted}.lora_{a}.weight",
    "diffusers of 2023": "unet.{dotted}.lora.{down}.weight",
    "LyCORIS": "lycoris_{flat}.lora_{down}.weight",
    "ComfyUI": "diffusion_model.{dotted}.lora_{a}.weight",
    "no beginning": "{dotted}.lora_{a}.weight",
}


@pytest.mark.parametrize("layer", [QUERY, CONVOLUTION, f"{QUERY[:-4]}to_out.0"])
@pytest.mark.parametrize("form", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_of_the_unets_layers(plain, merge, form, layer):
    weight = unet_weight(plain, layer)
    up, down = pair(weight)
    names = {"dotted": layer, "flat": layer.replace(".", "_")}
    first, second = form.format(**names, a="A", down="down"), form.format(**names, a="B", down="up")
    changed = merge({first: down, second: up}, 0.5)
    product = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    assert list(changed) == [f"unet {layer}"]
    assert close(changed[f"unet {layer}"], weight + 0.5 * product)


@pytest.mark.parametrize("name", ["to_q", "to_k", "to_v", "to_out"])
def test_diffusers_names_from_before_peft(plain, merge, name):
    layer = f"{QUERY[:-4]}{name}" + ".0" * (name == "to_out")
    up, down = pair(unet_weight(plain, layer))
    key = f"unet.{QUERY[:-5]}.processor.{name}_lora"
    changed = merge({f"{key}.down.weight": down, f"{key}.up.weight": up})
    assert close(changed[f"unet {layer}"], unet_weight(plain, layer) + up @ down)


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_%s.weight", f"te1 {FIRST}"),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_%s.weight",
            f"te1 {FIRST}",
        ),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.%s.weight", f"te1 {FIRST}"),
        (f"text_encoder.{FIRST}.lora_%s.weight", f"te1 {FIRST}"),
        ("lora_te2_text_model_encoder_layers_1_mlp_fc1.lora_%s.weight", f"te2 {SECOND}"),
        (f"text_encoder_2.{SECOND}.lora_linear_layer.%s.weight", f"te2 {SECOND}"),
        ("lora_te2_text_projection.lora_%s.weight", "te2 text_projection"),
    ],
)
def test_spellings_of_the_text_encoders_layers(plain, merge, key, changed):
    before = weights_of(plain.unet, *plain.encoders)[changed]
    up, down = pair(before)
    found = merge({key % "up": up, key % "down": down})
    assert list(found) == [changed]
    assert close(found[changed], before + up @ down)


def test_every_layer_has_its_name_in_sdxls_original_layout(tiny_folder):
    """Kohya's trainer writes those, with underscores."""
    sizes = json.loads((tiny_folder / "unet" / "config.json").read_text())
    unet = UNet2DConditionModel.from_config({**sizes, "layers_per_block": 2})
    values = {
        name: torch.tensor([number])
        for number, name in enumerate(unet.state_dict())
        if name.endswith(".weight")
    }

    class Numbered:
        config, up_blocks = unet.config, unet.up_blocks

        def state_dict(self) -> Tensors:
            return values

    class Empty:
        def state_dict(self) -> Tensors:
            return {}

    original = {
        int(value): name for name, value in single_file(Numbered(), Empty(), Empty()).items()
    }
    known = layers_by_name((unet,))[0]
    layers = 0
    for name, number in values.items():
        ours = name.removesuffix(".weight")
        if isinstance(unet.get_submodule(ours), torch.nn.Linear | torch.nn.Conv2d):
            theirs = original[int(number)].removeprefix("model.diffusion_model.")
            assert known[theirs.removesuffix(".weight").replace(".", "_")] == ours
            layers += 1
    assert layers > 100


# --- strengths ---


def test_alpha_of_a_layer(plain, merge):
    up, down = pair(unet_weight(plain, QUERY))
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    found = merge(
        {
            f"{name}.lora_up.weight": up,
            f"{name}.lora_down.weight": down,
            f"{name}.alpha": torch.tensor(8.0),
        },
        0.5,
    )
    wanted = unet_weight(plain, QUERY) + 0.5 * 8 / 4 * up @ down
    assert close(found[f"unet {QUERY}"], wanted)


def test_a_file_that_diffusers_saved_is_as_strong_as_there(plain, merge, tmp_path):
    """Its header says alpha 8 at rank 4, 3 at one layer, and another rank at one."""
    value = f"{QUERY[:-4]}to_v"
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["to_q", "attn1.to_v"],
        rank_pattern={f"^{value}": 2},
        alpha_pattern={value: 3},
        init_lora_weights=False,
    )
    theirs = copied(plain)[0]
    theirs.add_adapter(config)
    theirs.save_lora_adapter(tmp_path, weight_name="unet.safetensors")
    theirs.fuse_lora(lora_scale=0.5)
    StableDiffusionXLPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=load_file(tmp_path / "unet.safetensors"),
        unet_lora_adapter_metadata=config.to_dict(),
    )
    written = tmp_path / "pytorch_lora_weights.safetensors"
    with safe_open(written, framework="pt") as saved:
        found = merge(load_file(written), 0.5, saved.metadata())
    fused = {
        name.replace(".base_layer", ""): tensor
        for name, tensor in theirs.state_dict().items()
        if "lora_" not in name
    }
    assert {f"unet {QUERY}", f"unet {value}"} <= set(found)
    for name, tensor in found.items():
        assert close(tensor, fused[f"{name.removeprefix('unet ')}.weight"]), name


@pytest.mark.parametrize("start", ["", "text_model.", "^text_model."])
def test_alpha_of_an_encoders_layer_in_a_header(plain, merge, start):
    """By its name in any version of transformers."""
    before = plain.encoders[0].get_submodule(FIRST).weight
    up, down = pair(before)
    patterns = {f"{start}{FIRST}": 6}
    settings = {"text_encoder.lora_alpha": 4, "text_encoder.alpha_pattern": patterns}
    header = {"lora_adapter_metadata": json.dumps(settings)}
    name = f"text_encoder.text_model.{FIRST}"
    found = merge({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, 1.0, header)
    assert close(found[f"te1 {FIRST}"], before + 6 / 4 * up @ down)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, lora_alpha=8, use_rslora=True, init_lora_weights=False),
        LoraConfig(r=4, lora_alpha=8, use_dora=True, init_lora_weights=False),
        LoHaConfig(r=3, alpha=6, init_weights=False, use_effective_conv2d=True),
        LoHaConfig(r=3, alpha=6, init_weights=False),
        LoKrConfig(r=2, alpha=6, init_weights=False, use_effective_conv2d=True),
        LoKrConfig(r=2, alpha=6, init_weights=False, decompose_both=True, decompose_factor=4),
    ],
    ids=["rslora", "dora", "loha", "loha flat", "lokr", "lokr of four"],
)
def test_what_peft_saves_is_as_strong_as_there(plain, merge, tmp_path, config):
    config.target_modules = {QUERY, CONVOLUTION, f"{QUERY[:-4]}to_out.0"}
    torch.manual_seed(0)
    theirs = get_peft_model(copied(plain)[0], config)
    for name, parameter in theirs.named_parameters():
        # Freshly made, DoRA's are what they are without it.
        if "magnitude" in name:
            parameter.data *= torch.linspace(0.5, 2, parameter.numel()).reshape(parameter.shape)
    theirs.save_pretrained(tmp_path)
    found = merge(load_file(tmp_path / "adapter_model.safetensors"))
    fused = theirs.merge_and_unload().state_dict()
    assert set(found) == {f"unet {layer}" for layer in config.target_modules}
    for name, tensor in found.items():
        assert close(tensor, fused[f"{name.removeprefix('unet ')}.weight"]), name


# --- kohya's and LyCORIS' own kinds ---


def kohya(layer: str, **parts: torch.Tensor) -> Tensors:
    name = f"lora_unet_{layer.replace('.', '_')}"
    dotted = {"lora_up": "lora_up.weight", "lora_down": "lora_down.weight"}
    dotted["lora_mid"] = "lora_mid.weight"
    return {f"{name}.{dotted.get(part, part)}": value for part, value in parts.items()}


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("axis", [0, 1], ids=["by output", "by input"])
@pytest.mark.parametrize("layer", [QUERY, CONVOLUTION])
def test_a_dora_in_kohyas_layout(plain, merge, layer, axis, scale):
    weight = unet_weight(plain, layer)
    up, down = pair(weight)
    sizes = [size if place == axis else 1 for place, size in enumerate(weight.shape)]
    lengths = torch.rand(sizes) + 0.5
    parts = {"lora_up": up, "lora_down": down, "alpha": torch.tensor(2.0), "dora_scale": lengths}
    found = merge(kohya(layer, **parts), scale)[f"unet {layer}"]
    whole = weight + 2 / 4 * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    others = [place for place in range(weight.ndim) if place != axis]
    wanted = lengths * whole / whole.pow(2).sum(others, keepdim=True).sqrt()
    assert close(found, weight + scale * (wanted - weight))


def test_a_loha_in_kohyas_layout(plain, merge):
    weight = unet_weight(plain, CONVOLUTION)
    out, inner = weight.shape[0], weight[0].numel()
    a, b, c, d = (torch.randn(*s) for s in ((out, 2), (2, inner), (out, 2), (2, inner)))
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
    found = merge(kohya(CONVOLUTION, **parts, alpha=torch.tensor(1.0)), 0.5)
    wanted = weight + 0.5 * 1 / 2 * ((a @ b) * (c @ d)).reshape(weight.shape)
    assert close(found[f"unet {CONVOLUTION}"], wanted)


@pytest.mark.parametrize("whole", [True, False])
def test_a_lokr_in_kohyas_layout(plain, merge, whole):
    """Of whole factors alpha means nothing: they have no rank."""
    weight = unet_weight(plain, CONVOLUTION)
    first, second = torch.randn(4, 4), torch.randn(weight.shape[0] // 4, weight.shape[1] // 4, 3, 3)
    parts = {"lokr_w1": first, "lokr_w2": second}
    if not whole:
        a, b = torch.randn(second.shape[0], 2), torch.randn(2, second[0].numel())
        parts = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b}
        second = (a @ b).reshape(second.shape)
    found = merge(kohya(CONVOLUTION, **parts, alpha=torch.tensor(5.0)))
    product = torch.einsum("ab,cdkl->acbdkl", first, second).reshape(weight.shape)
    wanted = weight + (1.0 if whole else 5 / 2) * product
    assert close(found[f"unet {CONVOLUTION}"], wanted)


def test_a_convolution_in_three_parts(plain, merge):
    weight = unet_weight(plain, CONVOLUTION)
    up, down = torch.randn(weight.shape[0], 2, 1, 1), torch.randn(2, weight.shape[1], 1, 1)
    mid = torch.randn(2, 2, 3, 3)
    found = merge(kohya(CONVOLUTION, lora_up=up, lora_down=down, lora_mid=mid))
    pixels = torch.randn(1, weight.shape[1], 5, 5)
    through = pixels
    for kernel in (down, mid, up):
        through = torch.nn.functional.conv2d(through, kernel)
    added = torch.nn.functional.conv2d(pixels, found[f"unet {CONVOLUTION}"] - weight)
    assert (added - through).abs().max() < 1e-3


# --- what is refused ---


def good(plain: SdxlNetworks) -> Tensors:
    up, down = pair(unet_weight(plain, QUERY))
    return kohya(QUERY, lora_up=up, lora_down=down)


def test_a_lora_for_another_model_is_refused(refused):
    stranger = kohya(
        "double_blocks.0.img_attn", lora_up=torch.ones(2, 1), lora_down=torch.ones(1, 2)
    )
    assert refused(stranger) == (
        "1 of its 1 layers are not in this model, such as double_blocks_0_img_attn; "
        "was it made for SDXL?"
    )


def test_a_lora_that_fits_in_part_is_refused(plain, refused):
    stranger = kohya(
        "down_blocks.0.attentions.0.proj_in", lora_up=torch.ones(2, 1), lora_down=torch.ones(1, 2)
    )
    assert refused(good(plain) | stranger).startswith("1 of its 2 layers are not in this model")


def test_a_layer_by_two_names_is_refused(plain, refused):
    """It would be changed twice, or by one of the two."""
    up, down = pair(plain.encoders[0].get_submodule(FIRST).weight)
    names = (f"lora_te1_text_model_{FIRST.replace('.', '_')}", f"text_encoder.{FIRST}")
    keys = {f"{name}.lora_up.weight": up.clone() for name in names}
    keys |= {f"{name}.lora_down.weight": down.clone() for name in names}
    assert refused(keys).startswith("it has two tensors for one place, such as ")


def test_a_layer_by_its_name_in_both_layouts_is_refused(plain, tiny_folder, tmp_path):
    sizes = json.loads((tiny_folder / "unet" / "config.json").read_text())
    unet = UNet2DConditionModel.from_config({**sizes, "layers_per_block": 2})
    twice: Tensors = {}
    for name in ("conv_in", "input_blocks.0.0"):
        up, down = pair(unet.conv_in.weight)
        twice |= kohya(name, lora_up=up, lora_down=down)
    save_file(twice, tmp_path / "a")
    with pytest.raises(WeightsError, match="it has two names for one layer, conv_in"):
        merge_lora((unet, *plain.encoders), tmp_path / "a", 1.0)


def test_tensors_of_a_kind_that_is_not_known_are_refused(plain, refused):
    sentence = refused(good(plain) | {"lora_unet_conv_in.oft_blocks": torch.ones(2)})
    assert sentence.startswith(
        "1 of its 3 tensors are of a kind that is not known, such as lora_unet_conv_in.oft_blocks;"
    )


def test_a_lora_that_changes_nothing_is_refused(plain, merge, refused):
    weight = unet_weight(plain, QUERY)
    nothing = kohya(QUERY, lora_up=torch.zeros(len(weight), 4), lora_down=pair(weight)[1])
    assert refused(nothing) == "it changes no weight"
    assert refused({}) == "it is empty"
    # Whoever switches one off means it.
    assert merge(good(plain), 0.0) == {}


def test_matrices_of_another_size_are_refused(plain, refused):
    up, down = pair(unet_weight(plain, QUERY))
    assert refused(kohya(QUERY, lora_up=up, lora_down=down[:, :-1])).endswith(
        "to_q is not right: (128, 127) does not fit (128, 128)"
    )
    assert "shapes cannot be multiplied" in refused(kohya(QUERY, lora_up=up, lora_down=down[1:]))
    assert refused(kohya(QUERY, lora_up=up)).endswith("up is no LoRA, LoHa or LoKr")
    lengths = torch.ones(3, 1)
    assert "3 magnitudes do not fit" in refused(
        kohya(QUERY, lora_up=up, lora_down=down, dora_scale=lengths)
    )


def test_a_dora_without_its_magnitudes_is_refused(plain, refused):
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "unet.use_dora": True})}
    assert "a DoRA, but has no magnitudes" in refused(good(plain), header=header)


def test_pefts_own_file_without_its_settings_is_refused(plain, refused):
    """Nobody would know its strength."""
    up, down = pair(unet_weight(plain, QUERY))
    name = f"base_model.model.{QUERY}"
    sentence = refused({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up})
    assert sentence.startswith("its strength is not known: PEFT's ")
    assert sentence.endswith("adapter_config.json is missing")


def test_pefts_names_with_alpha_need_no_settings(plain, merge):
    weight = unet_weight(plain, QUERY)
    up, down = pair(weight)
    name = f"base_model.model.{QUERY}"
    parts = {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor(8.0)}
    found = merge({f"{name}.{part}": value for part, value in parts.items()})
    assert close(found[f"unet {QUERY}"], weight + 8 / 4 * up @ down)


@pytest.mark.parametrize("content", [None, b"<html></html>"])
def test_what_is_no_safetensors_is_refused(tiny_folder, tmp_path: Path, content):
    file = tmp_path / "own.safetensors"
    if content:
        file.write_bytes(content)
    config = replace(CONFIG, loras=(OwnLora(str(file)),))
    with pytest.raises(WeightsError, match=rf"the LoRA {file} cannot be used: "):
        read_networks(tiny_folder, config, "cpu")
