"""A ControlNet that is shown the crop: as in diffusers' own pipeline, wherever it runs."""

import json
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
    link_all,
    of_all,
    run,
    save_all,
)
from diffusers import (
    ControlNetModel,
    StableDiffusionXLControlNetImg2ImgPipeline,
    UNet2DConditionModel,
)
from small_networks import small, with_channels
from their_samplers import THEIRS

from pipeline.config_inpainter import ControlConfig, InpainterConfig
from pipeline.errors import WeightsError
from pipeline.models.sdxl.inpainter import make_inpainter
from pipeline.models.sdxl.networks import read_networks

SCALE = 0.8
CONFIG = InpainterConfig(
    ".", "euler", "all", (1, 2, 4, 8), control=ControlConfig("control", SCALE), precision="float32"
)


def new_control(unet: UNet2DConditionModel) -> ControlNetModel:
    """Of random weights: as made, it would answer with nothing."""
    torch.manual_seed(1)
    # A VAE of a quarter of the pixels' side, where SDXL's has an eighth.
    control = ControlNetModel.from_unet(
        with_channels(unet, 4), conditioning_embedding_out_channels=(8, 16, 32)
    )
    with torch.no_grad():
        for parameter in control.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    return control.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory) -> Path:
    """A profile's networks, and a ControlNet beside them."""
    root = tmp_path_factory.mktemp("controlled")
    link_all(tiny_folder, root)
    # A ControlNet has as many layers on each level, which the tiny profile's UNet has not.
    networks = small(read_networks(tiny_folder, replace(CONFIG, control=None), "cpu"))
    own = {"unet": networks.unet, "vae": networks.vae, "control": new_control(networks.unet)}
    save_all(own, root)
    return root


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m_karras", "ddim"])
def test_it_paints_what_diffusers_pipeline_paints(folder, scheduler_config, name):
    config = replace(CONFIG, scheduler=name, step_rule="diffusers")
    networks = read_networks(folder, config, "cpu")
    networks = replace(networks, unet=with_channels(networks.unet, 4))
    ours = make_inpainter(networks, config, "cpu")
    order = of_all()
    with torch.inference_mode():
        (canvas,) = ours._canvases([order])
        trajectory = ours._start(order, canvas)
    ours._loop.run([trajectory], lambda _index: None, lambda: False)

    scheduler_class, options = THEIRS[name]
    pipeline = StableDiffusionXLControlNetImg2ImgPipeline(
        networks.vae,
        *networks.encoders,
        *networks.tokenizers,
        networks.unet,
        networks.control,
        scheduler_class.from_config(scheduler_config, **options),
    )
    pipeline.set_progress_bar_config(disable=True)

    def painted(scale: float) -> torch.Tensor:
        return pipeline(
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            image=canvas.latents,
            control_image=torch.from_numpy(order.image.pixels).permute(2, 0, 1)[None] / 255,
            controlnet_conditioning_scale=scale,
            height=SIDE,
            width=SIDE,
            num_inference_steps=order.steps,
            strength=order.strength,
            guidance_scale=order.guidance_scale,
            generator=torch.Generator().manual_seed(order.seed),
            output_type="latent",
        ).images

    assert (trajectory.latents - painted(SCALE)).abs().max() <= 1e-4
    assert (trajectory.latents - painted(0.0)).abs().max() > 1e-2


def test_of_nine_channels_it_sees_the_noisy_picture_alone(folder):
    """A UNet that looks at no more than it, too, paints the same."""
    four = read_networks(folder, CONFIG, "cpu")
    four = replace(four, unet=with_channels(four.unet, 4))
    nine = read_networks(folder, CONFIG, "cpu")
    assert nine.unet.config.in_channels == 9
    weights = four.unet.state_dict()
    first = torch.zeros_like(nine.unet.conv_in.weight)
    first[:, :4] = weights["conv_in.weight"]
    nine.unet.load_state_dict({**weights, "conv_in.weight": first})
    # Of nine channels, one is not held to a mask; neither is one of four to a mask of all.
    order = of_all()
    one, other = (run(make_inpainter(each, CONFIG, "cpu"), order)[0] for each in (four, nine))
    assert np.abs(one - other).max() <= 1


def test_each_crop_is_shown_itself_whoever_shares_the_call(folder):
    check_company(folder, CONFIG)


def test_of_networks_that_take_turns_it_takes_the_unets(folder):
    turns, networks = check_turns(folder, CONFIG)
    assert (networks["UNet"], networks["ControlNet"]) in turns


# For each of two sizes: the blocks of both networks, which are alike; both networks, and the
# decoder.
@pytest.mark.parametrize(("mode", "least"), [("regional", 2), ("full", 5)])
@pytest.mark.slow
def test_compiled_it_paints_the_same(folder, mode, least):
    check_compiled(folder, CONFIG, mode, least)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["resident", "offload", "low"])
def test_a_card_holds_both_at_a_time(folder, mode):
    check_card(folder, CONFIG, mode)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cross_attention_dim": 768}, "the ControlNet in control is not made for this UNet"),
        ({"_class_name": "ControlNetUnionModel"}, "control has a ControlNetUnionModel"),
    ],
)
def test_one_that_does_not_fit_is_refused_before_it_is_read(folder, tmp_path, change, says):
    (tmp_path / "control").mkdir()
    config = json.loads((folder / "control/config.json").read_text())
    (tmp_path / "control/config.json").write_text(json.dumps(config | change))
    link_all(folder, tmp_path, but="control")
    with pytest.raises(WeightsError, match=says):
        read_networks(tmp_path, CONFIG, "cpu")


def test_one_that_is_missing_is_told(tiny_folder):
    with pytest.raises(WeightsError, match="control"):
        read_networks(tiny_folder, CONFIG, "cpu")
