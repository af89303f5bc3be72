"""That the inpainter learns to give clean faces, and its optimizer moves what it should."""

import copy

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler

from weights.training import common
from weights.training.light_decoder import LightDecoder, learn_decoder
from weights.training.network import SCHEDULER_CONFIG, Inpainter
from weights.training.objective import Judge, step_loss
from weights.training.optimizer import MuonWithAdamW
from weights.training.pairs import PairRing, Portrait
from weights.training.prompts import Prompts


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(common.TINY_DIR / "vae", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def ring(vae: AutoencoderKL) -> PairRing:
    rgb = np.full((300, 240, 3), 30, np.uint8)
    cv2.ellipse(rgb, (120, 150), (60, 80), 0, 0, 360, (210, 170, 150), -1)
    for x in (95, 145):
        cv2.circle(rgb, (x, 130), 8, (40, 30, 20), -1)
    pairs = PairRing(vae, [Portrait(rgb, (60, 70, 180, 230))], 16, seed=0)
    pairs.make(16)
    return pairs


@pytest.fixture
def model() -> Inpainter:
    torch.manual_seed(0)
    network: Inpainter = Inpainter().to(memory_format=torch.channels_last)
    return network


@pytest.fixture(scope="module")
def decoder(vae: AutoencoderKL, ring: PairRing) -> LightDecoder:
    torch.manual_seed(0)
    latents = torch.cat([ring.clean, ring.damaged])
    learned: LightDecoder = learn_decoder(vae, latents, steps=60).requires_grad_(False)
    return learned


@pytest.fixture(scope="module")
def judge(decoder: LightDecoder) -> Judge:
    return Judge(decoder)


def test_the_light_decoder_tells_small_from_large_errors_as_the_vae_does(
    vae: AutoencoderKL, ring: PairRing, decoder: LightDecoder
) -> None:
    scale = vae.config.scaling_factor
    with torch.inference_mode():
        seen, told = (
            (decode(ring.damaged) - decode(ring.clean)).square().mean(dim=(1, 2, 3)).sqrt()
            for decode in (lambda z: vae.decode(z / scale).sample, decoder)
        )
    assert torch.corrcoef(torch.stack([seen, told]))[0, 1] > 0.85


def test_the_judge_asks_nothing_of_what_is_right_and_more_of_what_is_worse(
    judge: Judge, ring: PairRing
) -> None:
    weight = torch.ones_like(ring.mask)
    errors = [
        judge.error(
            ring.clean + share * (ring.damaged - ring.clean), ring.clean, ring.chips, weight
        )
        for share in (0, 0.5, 1)
    ]
    assert errors[0].abs().max() < 1e-6
    assert errors[0].mean() < errors[1].mean() < errors[2].mean()


def test_going_down_the_judges_error_leads_to_the_clean_face(judge: Judge, ring: PairRing) -> None:
    got = ring.damaged.clone().requires_grad_()
    weight = torch.ones_like(ring.mask)
    optimizer = torch.optim.Adam([got], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        judge.error(got, ring.clean, ring.chips, weight).backward()
        optimizer.step()
    left = (got - ring.clean).square().mean() / (ring.damaged - ring.clean).square().mean()
    assert left < 0.6


def test_the_loss_reaches_every_weight_that_the_pictures_pass(
    judge: Judge, ring: PairRing, model: Inpainter
) -> None:
    signal = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod
    loss = step_loss(model, judge, ring, Prompts(0), signal, batch=4)
    loss.backward()
    gradients = [weight.grad for weight in model.unet.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert model.unet.conv_out.weight.grad.abs().sum() > 0


def test_every_trained_weight_moves_and_the_state_survives(model: Inpainter) -> None:
    optimizer = MuonWithAdamW(model, hidden=model.unet)
    before = [weight.detach().clone() for weight in model.parameters()]
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * group.get("rate_share", 1.0)
    optimizer.step()
    assert all(
        not torch.equal(was, now) for was, now in zip(before, model.parameters(), strict=True)
    )
    twin: Inpainter = Inpainter().to(memory_format=torch.channels_last)
    twin.load_state_dict(model.state_dict())
    resumed = MuonWithAdamW(twin, hidden=twin.unet)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for parts in ((model, optimizer), (twin, resumed)):
        torch.manual_seed(2)
        for weight in parts[0].parameters():
            weight.grad = torch.randn_like(weight)
        parts[1].step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_weights_that_muon_cannot_be_shown_are_refused() -> None:
    model = Inpainter()
    with pytest.raises(ValueError, match="channels_last"):
        MuonWithAdamW(model, hidden=model.unet)
