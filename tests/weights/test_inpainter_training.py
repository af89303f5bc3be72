"""That the inpainter learns to give clean faces, and its optimizer moves what it should."""

import copy
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler

from weights.training import common
from weights.training.inpainter import start_imitator
from weights.training.light_decoder import Imitator
from weights.training.network import SCHEDULER_CONFIG, Inpainter
from weights.training.objective import Eye, step_loss
from weights.training.optimizer import MuonWithAdamW
from weights.training.pairs import PairRing, Portrait
from weights.training.prompts import Prompts
from weights.training.vae import decode


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
def imitator(
    vae: AutoencoderKL, ring: PairRing, tmp_path_factory: pytest.TempPathFactory
) -> Imitator:
    torch.manual_seed(0)
    return start_imitator(vae, ring, tmp_path_factory.mktemp("imitator") / "decoder.pt", steps=60)


@pytest.fixture(scope="module", params=["light", "exact"])
def eye(request: pytest.FixtureRequest, vae: AutoencoderKL, imitator: Imitator) -> Eye:
    if request.param == "light":
        return Eye(imitator.decoder, side=48)
    return Eye(partial(decode, vae.requires_grad_(False)), side=32, border=3)


def test_the_light_decoder_tells_small_from_large_errors_as_the_vae_does(
    vae: AutoencoderKL, ring: PairRing, imitator: Imitator
) -> None:
    with torch.inference_mode():
        seen, told = (
            (look(ring.damaged[:8]) - look(ring.clean[:8])).square().mean(dim=(1, 2, 3)).sqrt()
            for look in (partial(decode, vae), imitator.decoder)
        )
    assert torch.corrcoef(torch.stack([seen, told]))[0, 1] > 0.85


def test_the_light_decoder_learns_on_from_where_it_was(
    vae: AutoencoderKL, ring: PairRing, imitator: Imitator
) -> None:
    imitator.save()
    resumed = start_imitator(vae, ring, imitator.file)
    latents = torch.stack([ring.clean, ring.damaged, ring.damaged], dim=1)[:2]
    with torch.inference_mode():
        torch.testing.assert_close(resumed.decoder(ring.clean), imitator.decoder(ring.clean))
    for one in (imitator, resumed):
        torch.manual_seed(1)
        one.learn(latents)
    for mine, theirs in zip(
        imitator.decoder.parameters(), resumed.decoder.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def middle(ring: PairRing) -> tuple[torch.Tensor, ...]:
    """The clean and damaged latents of four faces, no more than every loss decodes at once, and a
    weight for each pixel.
    """
    part = (slice(4), ..., slice(16, 48), slice(16, 48))
    return ring.clean[part], ring.damaged[part], torch.ones_like(ring.mask[part])


def test_the_loss_asks_nothing_of_what_is_right_and_more_of_what_is_worse(
    eye: Eye, ring: PairRing
) -> None:
    clean, damaged, weight = middle(ring)
    errors = [eye.error(clean + share * (damaged - clean), clean, weight) for share in (0, 0.5, 1)]
    assert errors[0].abs() < 1e-6
    assert errors[0] < errors[1] < errors[2]


def test_going_down_the_loss_leads_to_the_clean_face(
    vae: AutoencoderKL, eye: Eye, ring: PairRing
) -> None:
    clean, damaged, weight = middle(ring)
    got = damaged.clone().requires_grad_()
    optimizer = torch.optim.Adam([got], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        eye.error(got, clean, weight).backward()
        optimizer.step()
    with torch.inference_mode():
        seen = [decode(vae, latents) for latents in (got, damaged, clean)]
    left = (seen[0] - seen[2]).square().mean() / (seen[1] - seen[2]).square().mean()
    assert left < 0.5


def test_the_loss_reaches_every_weight_that_the_pictures_pass(
    eye: Eye, ring: PairRing, model: Inpainter
) -> None:
    signal = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod
    loss, latents = step_loss(model, eye, ring, Prompts(0), signal, batch=4)
    assert latents.shape[:3] == (4, 3, 4)
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
