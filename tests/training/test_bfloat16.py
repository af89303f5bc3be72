"""That training's bfloat16 shows what float32 does, and its kernel is torch's norm and SiLU."""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from training import common
from training.bfloat16 import BFloat16, NormSilu
from training.vae import decode

FAST = BFloat16(torch.device("cpu"))
needs_bfloat16 = pytest.mark.skipif(not FAST.enabled, reason="no bfloat16 or no C++ compiler")
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((got.float() - wanted).norm() / wanted.norm()).item()


@needs_compiler
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(("channels", "height"), [(16, 12), (40, 7), (80, 1), (96, 9), (192, 6)])
@pytest.mark.slow
def test_the_kernel_is_torchs_group_norm_with_its_gradients(
    channels: int, height: int, *, silu: bool
) -> None:
    torch.manual_seed(channels)
    norm = torch.nn.GroupNorm(8, channels)
    for values in norm.parameters():
        torch.nn.init.normal_(values)
    shown = (torch.randn(3, channels, height, 5) + 0.5).bfloat16()
    back = torch.randn_like(shown)
    found = []
    for exact in (False, True):
        x = shown.to(torch.float32 if exact else torch.bfloat16, copy=True).requires_grad_()
        norm.zero_grad()
        if exact:
            y = norm(x)
            y = F.silu(y) if silu else y
        else:
            with torch.autocast("cpu", torch.bfloat16):
                y = NormSilu(norm, silu=silu)(x)
        y.backward(back.to(y.dtype))
        found.append([y.detach(), *(v.grad.clone() for v in (x, norm.weight, norm.bias))])
    for got, wanted in zip(*found, strict=True):
        assert relative(got, wanted) < 0.004
    # The parameters' are sums in float32 and never rounded.
    for got, wanted in zip(found[0][2:], found[1][2:], strict=True):
        assert relative(got, wanted) < 1e-5


@needs_compiler
@pytest.mark.parametrize("value", [-300.0, -90.0, 0.0, 90.0, 3e4])
def test_the_kernels_silu_holds_far_from_zero(value: float) -> None:
    norm = torch.nn.GroupNorm(1, 16)
    torch.nn.init.zeros_(norm.weight)
    torch.nn.init.constant_(norm.bias, value)
    x = torch.randn(1, 16, 4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = NormSilu(norm, silu=True)(x)
    y.float().sum().backward()
    wanted = F.silu(torch.tensor(value))
    torch.testing.assert_close(y.float(), wanted.expand_as(y), rtol=0.004, atol=1e-30)
    assert x.grad is not None
    assert not x.grad.any()


@needs_bfloat16
def test_a_prepared_vae_shows_the_same_picture() -> None:
    vae = AutoencoderKL.from_pretrained(common.TINY_DIR / "vae", torch_dtype=torch.float32)
    prepared = FAST.prepare(copy.deepcopy(vae))
    assert list(prepared.state_dict()) == list(vae.state_dict())
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        coded = vae.encode(pictures).latent_dist.mean
        exact = decode(vae, coded)
        with FAST.context():
            quick_coded = prepared.encode(pictures).latent_dist.mean
            quick = decode(prepared, coded)
        unhurried = decode(prepared, coded)
    assert quick.dtype == torch.bfloat16
    assert (quick.float() - exact).abs().mean() < 1 / 127.5
    assert relative(quick_coded, coded) < 0.01
    torch.testing.assert_close(unhurried, exact, rtol=1e-4, atol=1e-5)
