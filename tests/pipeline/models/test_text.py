"""Prompts of any length and with weights, beside the plain encoding of diffusers' pipeline."""

import numpy as np
import pytest
import torch
from detail_requests import asking
from diffusers import StableDiffusionXLPipeline

from pipeline.config_inpainter import InpainterConfig
from pipeline.models.sdxl.networks import read_networks
from pipeline.models.sdxl.prompts import chunks_of, weighted_parts
from pipeline.models.sdxl.text import TextEncoders
from pipeline.types import FaceBox, Image

SHORT = "a red-haired woman, don't smile, freckles"
LONG = ", ".join(f"freckles {number}" for number in range(60))


@pytest.fixture(scope="module")
def networks(tiny_folder):
    return read_networks(tiny_folder, InpainterConfig(".", "euler", "all", (1,)), "cpu")


@pytest.fixture(scope="module")
def text(networks) -> TextEncoders:
    return TextEncoders(networks.tokenizers, networks.encoders)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a face", [("a face", 1)]),
        ("", []),
        ("a (red:1.2) face", [("a ", 1), ("red", 1.2), (" face", 1)]),
        ("(a face)", [("a face", 1.1)]),
        ("((a) b:2)", [("a", 2.2), (" b", 2)]),
        ("(a (b:0.5):2)", [("a ", 2), ("b", 1)]),
        ("(dull:-0.5)", [("dull", -0.5)]),
        ("(much:1000)", [("much", 10)]),
        (r"a \(red:1.2\) face", [("a (red:1.2) face", 1)]),
        ("a (red face", [("a (red face", 1)]),
        ("a red) face :)", [("a red) face :)", 1)]),
        ("(ratio 4:3 : 1.2)", [("ratio 4:3 ", 1.2)]),
        ("[a] face", [("[a] face", 1)]),
        ("()", []),
        (r"back\slash", [(r"back\slash", 1)]),
    ],
)
def test_weights_as_users_write_them(prompt, parts):
    found = weighted_parts(prompt)
    assert [part.text for part in found] == [text for text, _ in parts]
    assert [part.weight for part in found] == pytest.approx([weight for _, weight in parts])


@pytest.mark.parametrize("prompt", ["", SHORT, "x " * 74, "x " * 75, "  Ünïcode 😀  "])
def test_a_plain_prompt_is_encoded_as_diffusers_does(networks, text, prompt):
    pipeline = StableDiffusionXLPipeline(
        networks.vae, *networks.encoders, *networks.tokenizers, networks.unet, scheduler=None
    )
    with torch.inference_mode():
        found = text(prompt)
        context, _, pooled, _ = pipeline.encode_prompt(
            prompt, device="cpu", do_classifier_free_guidance=False
        )
    assert torch.equal(found.context, context)
    assert torch.equal(found.pooled, pooled)


def test_a_long_prompt_is_read_in_chunks(networks, text):
    """Each is what it would be alone, and no word is cut."""
    tokenizer = networks.tokenizers[0]
    chunks, unread = chunks_of(LONG, tokenizer, {})
    assert len(chunks) > 1
    assert unread == ""
    with torch.inference_mode():
        found = text(LONG)
        alone = [text(tokenizer.decode(chunk.ids)) for chunk in chunks]
    assert found.context.shape[1] == 77 * len(chunks)
    wanted = torch.cat([part.context for part in alone], dim=1)
    assert (found.context - wanted).abs().max() < 1e-4
    assert (found.pooled - alone[0].pooled).abs().max() < 1e-4


def test_no_word_is_cut_at_a_chunks_end(networks):
    tokenizer = networks.tokenizers[0]
    word = "antidisestablishmentarianism"
    pieces = len(tokenizer(word, add_special_tokens=False).input_ids)
    assert pieces > 2
    chunks, _ = chunks_of("x " * 74 + word, tokenizer, {})
    assert [len(chunk.ids) for chunk in chunks] == [74, pieces]
    # One without an end is cut all the same.
    chunks, _ = chunks_of("x" * 2000, tokenizer, {})
    assert len(chunks[0].ids) == 75


def test_what_is_too_long_is_told(text):
    assert text.unread(SHORT) == text.unread(LONG) == ""
    assert text.unread("x " * 300) == ""
    assert text.unread("x " * 300 + "the (end:1.2)") == "the end"
    much = text.unread("x " * 10_000)
    assert much.endswith("x …")
    assert len(much) < 500
    with torch.inference_mode():
        assert text("x " * 10_000).context.shape[1] == 4 * 77


def test_a_weight_moves_a_token_away_from_an_empty_prompt(text):
    with torch.inference_mode():
        plain, heavy, empty = (text(prompt) for prompt in ("a red face", "a (red:1.5) face", ""))
        gone, same = text("a (red:0) face"), text("a (red:1.0) face")
    wanted = plain.context.clone()
    wanted[:, 2] = empty.context[:, 2] + 1.5 * (plain.context[:, 2] - empty.context[:, 2])
    assert (heavy.context - wanted).abs().max() < 1e-5
    assert (heavy.context - plain.context)[:, 2].abs().max() > 1e-2
    assert (gone.context - empty.context)[:, 2].abs().max() < 1e-5
    assert torch.equal(same.context, plain.context)


def test_a_result_says_what_was_not_read_of_the_faces_prompts(detailer):
    image = Image(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    boxes = [FaceBox(20, 20, 50, 50, 1.0), FaceBox(60, 60, 90, 90, 0.9)]
    prompt = f"{'x ' * 300}a hat [SEP] [SKIP]"
    request = asking(image, prompt, passes="detail", negative_prompt=f"{'x ' * 300}a tie")
    assert detailer.detail_faces(request, boxes).unread == ("a hat", "a tie")
    assert detailer.detail_faces(asking(image, "[SKIP]"), boxes).unread == ()
