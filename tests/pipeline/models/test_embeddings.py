"""Textual inversion: a user's own words in prompts, beside diffusers' pipeline."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detail_requests import asking
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

from pipeline.config_inpainter import EmbeddingConfig, InpainterConfig
from pipeline.errors import WeightsError
from pipeline.loading import load
from pipeline.models.sdxl.embeddings import add_words
from pipeline.models.sdxl.networks import SdxlNetworks, read_networks
from pipeline.models.sdxl.text import TextEncoders
from pipeline.types import FaceBox, Image

CONFIG = InpainterConfig(".", "euler", "all", (1,))
WIDTH = 16


def vectors(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(count, WIDTH, generator=generator) for key in ("clip_l", "clip_g")}


@pytest.fixture(scope="module")
def plain(tiny_folder) -> SdxlNetworks:
    return read_networks(tiny_folder, CONFIG, "cpu")


@pytest.fixture
def with_words(plain, tmp_path) -> Callable[..., TextEncoders]:
    """The encoders, which know these words too."""

    def make(**own: dict[str, torch.Tensor]) -> TextEncoders:
        files = []
        for name, tensors in own.items():
            save_file(tensors, tmp_path / f"{name}.safetensors")
            files.append((tmp_path / f"{name}.safetensors", ""))
        encoders = deepcopy(plain.encoders)
        words = add_words(encoders, plain.tokenizers, files)
        return TextEncoders(plain.tokenizers, encoders, words=words)

    return make


@pytest.fixture
def theirs(plain) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        plain.vae, *deepcopy(plain.encoders), *deepcopy(plain.tokenizers), plain.unet, None
    )


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("prompt", ["a photo of myword, smiling", "myword", "myword myword face"])
def test_it_is_what_diffusers_makes_of_it(with_words, theirs, prompt, count):
    own = vectors(count)
    for key, tokenizer, encoder in (
        ("clip_l", theirs.tokenizer, theirs.text_encoder),
        ("clip_g", theirs.tokenizer_2, theirs.text_encoder_2),
    ):
        theirs.load_textual_inversion(
            own[key], token="myword", tokenizer=tokenizer, text_encoder=encoder
        )
    text = with_words(myword=own)
    with torch.inference_mode():
        found, without = text(prompt), TextEncoders(text._tokenizers, text._encoders)(prompt)
        context, _, pooled, _ = theirs.encode_prompt(
            prompt, device="cpu", do_classifier_free_guidance=False
        )
    assert (found.context - context).abs().max() < 1e-4
    assert (found.pooled - pooled).abs().max() < 1e-4
    assert (found.context - without.context).abs().max() > 1e-2


def test_words_in_any_case_with_weights_and_comfyuis_beginning(with_words):
    text = with_words(MyWord=vectors(2))
    with torch.inference_mode():
        plain = text("a myword")
        same = [text(prompt) for prompt in ("a MYWORD", "a embedding:MyWord", "a (myword:1.0)")]
        heavy, empty = text("a (embedding:myword:1.5)"), text("")
        inside = text("a mywords")
    for other in same:
        assert torch.equal(other.context, plain.context)
    for place in (2, 3):
        wanted = empty.context + 1.5 * (plain.context - empty.context)
        assert (heavy.context - wanted)[:, place].abs().max() < 1e-5
    assert not torch.equal(inside.context, plain.context)


def test_several_words_of_which_one_begins_with_another(with_words):
    one, two = vectors(1, 1), vectors(2, 2)
    text = with_words(bad=one, bad_hands=two)
    alone = with_words(bad_hands=two)
    with torch.inference_mode():
        assert torch.equal(text("bad_hands").context, alone("bad_hands").context)
        assert not torch.equal(text("bad").context, alone("bad").context)


def test_a_word_of_many_vectors_is_not_cut(with_words):
    text = with_words(myword=vectors(10))
    with torch.inference_mode():
        found = text("x " * 70 + "myword")
        alone = text("myword")
    assert found.context.shape[1] == 2 * 77
    assert (found.context[:, 77:] - alone.context).abs().max() < 1e-4
    assert text.unread("x " * 300 + "a myword hat") == "a myword hat"


def test_a_prompts_end_is_found_where_the_configuration_is_sdxls(plain, with_words):
    """Its encoders say that the end is token 2, and transformers takes the highest one then."""
    wanted = with_words(myword=vectors(1))
    inner = plain.encoders[1].text_model
    inner.eos_token_id = 2
    try:
        found = with_words(myword=vectors(1))
    finally:
        inner.eos_token_id = 49407
    with torch.inference_mode():
        assert torch.equal(found("a myword face").pooled, wanted("a myword face").pooled)


@pytest.mark.slow
def test_a_profile_with_one_details_a_face(tiny_folder, tmp_path):
    save_file(vectors(1), tmp_path / "mine.safetensors")
    profile = tmp_path / "mine.toml"
    profile.write_text(
        f'base = "{tiny_folder}/profile.toml"\n[inpainter]\n'
        f'embeddings = [{{ file = "{tmp_path}/mine.safetensors", token = "freckly" }}]\n'
    )
    detailer = load(profile, "cpu")
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)

    def painted(prompt: str) -> np.ndarray:
        request = asking(Image(noise), prompt, 0.6, num_inference_steps=2, passes="detail")
        return detailer.detail_faces(request, [FaceBox(30, 30, 60, 60, 1.0)]).images[0].pixels

    assert np.array_equal(painted("freckly"), painted("FRECKLY"))
    assert not np.array_equal(painted("freckly"), painted("freckled"))


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"clip_l": torch.ones(1, WIDTH)}, "expected clip_l and clip_g, got clip_l; was it made"),
        ({"emb_params": torch.ones(1, 768)}, "expected clip_l and clip_g, got emb_params;"),
        ({}, "expected clip_l and clip_g, got nothing;"),
        (vectors(1) | {"clip_g": torch.ones(1, 20)}, "expected clip_g of width 16, got 20"),
        (vectors(1) | {"clip_g": torch.ones(2, WIDTH)}, "expected 1 to 75 vectors, .* got 1 and 2"),
        (vectors(76), "expected 1 to 75 vectors, .* got 76 and 76"),
    ],
)
def test_wrong_files_are_one_sentence(tiny_folder, tmp_path: Path, tensors, sentence):
    file = tmp_path / "own.safetensors"
    save_file(tensors, file)
    config = replace(CONFIG, embeddings=(EmbeddingConfig(str(file)),))
    with pytest.raises(WeightsError, match=rf"the embedding {file} cannot be used: {sentence}"):
        read_networks(tiny_folder, config, "cpu")


def test_words_that_no_prompt_can_have_are_refused(plain, tmp_path):
    for name in ("a", "b c"):
        save_file(vectors(1), tmp_path / f"{name}.safetensors")
    first, second = tmp_path / "a.safetensors", tmp_path / "b c.safetensors"
    with pytest.raises(WeightsError, match="its name is no word for a prompt; give it a `token`"):
        add_words(plain.encoders, plain.tokenizers, [(second, "")])
    with pytest.raises(WeightsError, match="the token a is another's already"):
        add_words(plain.encoders, plain.tokenizers, [(first, ""), (second, "A")])
