"""That the inpainter learns to give clean faces, and its optimizer moves what it should."""

import copy
import random
import re
from pathlib import Path

import cv2
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

from evaluation.damages import Damage, draw_damage
from training import common
from training.deepen import fill_deeper
from training.eye import Eye, Sight
from training.identity import cut_chips
from training.inpainter import load_exported
from training.network import SCHEDULER_CONFIG, UNET_CONFIG, Inpainter
from training.objective import step_loss
from training.optimizer import MuonWithAdamW
from training.pairs import PairRing, Portrait
from training.prompts import Prompts
from training.sampling import measure
from training.vae import decode

# Half a minute in all.
pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.png"
FACE = (166.0, 50.0, 280.0, 205.0)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(common.TINY_DIR / "vae", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def eye(vae: AutoencoderKL) -> Eye:
    return Eye(vae.requires_grad_(False))


@pytest.fixture(scope="module")
def ring(vae: AutoencoderKL) -> PairRing:
    pairs = PairRing(vae, [Portrait(common.load_rgb(EXAMPLE), FACE)], 8, seed=0)
    pairs.make(8, (Damage(shrink=3, noise=4, jpeg_quality=60),))
    return pairs


@pytest.fixture
def model() -> Inpainter:
    torch.manual_seed(0)
    network: Inpainter = Inpainter().to(memory_format=torch.channels_last)
    return network


def look(ring: PairRing, rows: slice) -> tuple[Sight, torch.Tensor, torch.Tensor]:
    """The pictures of these rows, their mask, and a weight for each latent pixel."""
    sight = ring.sight(torch.arange(len(ring))[rows])
    return sight, ring.mask[rows], torch.ones_like(ring.mask[rows])


def test_the_eye_sees_a_face_that_was_left_alone_as_it_was(eye: Eye, ring: PairRing) -> None:
    sight, mask, _ = look(ring, slice(4))
    with torch.inference_mode():
        seen = eye.picture(ring.damaged[:4], sight, mask)
    torch.testing.assert_close(seen, sight.original, atol=1e-5, rtol=0)


def test_the_loss_asks_less_of_what_is_nearer_to_the_clean_face(eye: Eye, ring: PairRing) -> None:
    sight, mask, weight = look(ring, slice(4))
    clean, damaged = ring.clean[:4], ring.damaged[:4]
    with torch.inference_mode():
        errors = [
            eye.error(damaged + share * (clean - damaged), sight, mask, weight)
            for share in (1, 0.5, 0)
        ]
    assert errors[0] < errors[1] < errors[2]


def test_going_down_the_loss_leads_to_the_person(eye: Eye, ring: PairRing) -> None:
    sight, mask, weight = look(ring, slice(2))
    damaged = ring.damaged[:2]
    got = damaged.clone().requires_grad_()
    optimizer = torch.optim.Adam([got], lr=0.03)
    errors = []
    for _ in range(8):
        optimizer.zero_grad()
        error = eye.error(got, sight, mask, weight)
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.8 * errors[0]
    with torch.inference_mode():
        seen = eye.picture(got, sight, mask)
        mine, theirs, before = (
            eye.embed(picture, sight.chips) for picture in (seen, sight.aim, sight.original)
        )
    assert (mine - theirs).norm(dim=1).mean() < 0.8 * (before - theirs).norm(dim=1).mean()


def test_half_a_share_aims_half_way(ring: PairRing) -> None:
    sight, _, _ = look(ring, slice(2))
    aimed = sight.aimed(torch.tensor([0.5, 1.0]).view(2, 1, 1, 1))
    torch.testing.assert_close(aimed.aim[0], (sight.aim[0] + sight.original[0]) / 2)
    torch.testing.assert_close(aimed.aim[1], sight.aim[1])


def test_some_faces_are_healthy_and_many_are_heavily_damaged() -> None:
    rng = random.Random(0)
    damages = [draw_damage(rng) for _ in range(400)]
    assert 8 <= sum(damage == Damage() for damage in damages) <= 48
    assert sum(damage.shrink >= 3.5 for damage in damages) >= 140


def test_a_window_shows_the_embedding_the_same_face(vae: AutoencoderKL) -> None:
    portraits = [Portrait(common.load_rgb(EXAMPLE), FACE)]
    rings = [PairRing(vae, portraits, 1, seed=3, side=side) for side in (64, 48)]
    for pairs in rings:
        pairs.make(1)
    whole, window = (pairs.sight(torch.tensor([0])) for pairs in rings)
    assert window.aim.shape == (1, 3, 192, 192)
    chips = [cut_chips(sight.aim, sight.chips) for sight in (whole, window)]
    middle = (..., slice(50, 100), slice(50, 100))
    torch.testing.assert_close(chips[0][middle], chips[1][middle], atol=2e-3, rtol=0)


def test_a_window_holds_the_same_part_of_the_picture_in_pixels_and_in_latents(
    vae: AutoencoderKL,
) -> None:
    pairs = PairRing(vae, [Portrait(common.load_rgb(EXAMPLE), FACE)], 3, seed=3, side=48)
    pairs.make(3)
    with torch.inference_mode():
        shown = decode(vae, pairs.damaged)
    original = pairs.sight(torch.arange(3)).original
    assert (pairs.coded - shown).abs().mean() < 1 / 127.5
    assert (shown - original).square().mean() < 0.03 * original.var()


def test_new_pairs_take_the_place_of_the_oldest(vae: AutoencoderKL) -> None:
    pairs = PairRing(vae, [Portrait(common.load_rgb(EXAMPLE), FACE)], 4, seed=0)
    pairs.make(4)
    before = pairs.damaged_rgb.clone()
    pairs.make(2)
    assert len(pairs) == 4
    changed = (pairs.damaged_rgb != before).flatten(1).any(dim=1)
    assert changed.tolist() == [True, True, False, False]
    with torch.inference_mode():
        coded = vae.encode(pairs.damaged_rgb / 127.5 - 1).latent_dist.mean
        exact = coded * vae.config.scaling_factor
    assert (pairs.damaged - exact).norm() < 0.01 * exact.norm()


def test_the_report_says_what_damage_did_and_what_came_back(
    eye: Eye, ring: PairRing, tmp_path: Path
) -> None:
    lines = [measure(latents, eye, ring, tmp_path) for latents in (ring.damaged, ring.clean)]
    before, after = (
        [float(word) for word in re.findall(r"heavy ([0-9.]+) dB ([0-9.]+)", line)[1]]
        for line in lines
    )
    assert lines[0].startswith("damaged: heavy")
    assert after[0] > before[0] + 3
    assert after[1] < 0.6 * before[1]
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * 3 * 256, 4 * 256, 3)


def test_the_loss_reaches_every_weight_that_the_pictures_pass(
    eye: Eye, ring: PairRing, model: Inpainter
) -> None:
    signal = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod
    step_loss(model, eye, ring, Prompts(0), signal, batch=4).backward()
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


def test_a_deeper_unet_begins_as_what_it_was(model: Inpainter) -> None:
    shallow = UNet2DConditionModel(**{**UNET_CONFIG, "layers_per_block": 1})
    with torch.no_grad():
        for weight in shallow.parameters():
            weight.normal_(std=0.1)
    fill_deeper(model.unet, shallow)
    added = {"text_embeds": torch.randn(2, 16), "time_ids": torch.full((2, 6), 256.0)}
    sample, context = torch.randn(2, 9, 16, 16), torch.randn(2, 77, 32)
    with torch.inference_mode():
        before, after = (
            unet(sample, 40, encoder_hidden_states=context, added_cond_kwargs=added).sample
            for unet in (shallow, model.unet)
        )
    assert before.abs().max() > 0.01
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_training_can_begin_at_the_exported_weights(model: Inpainter) -> None:
    load_exported(model)
    for name in ("unet", "text_encoder", "text_encoder_2"):
        part = getattr(model, name)
        exported = type(part).from_pretrained(common.TINY_DIR / name, torch_dtype=torch.float32)
        for key, value in exported.state_dict().items():
            torch.testing.assert_close(part.state_dict()[key], value, rtol=0, atol=0)
