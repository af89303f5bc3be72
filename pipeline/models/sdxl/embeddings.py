"""Textual inversion: words of a user's own, each of one or more vectors for both text encoders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.config_values import is_word
from pipeline.errors import WeightsError
from pipeline.models.sdxl.prompts import CHUNK_TOKENS, Words

# What SDXL's trainers call the vectors for its two encoders.
_KEYS = ("clip_l", "clip_g")


def add_words(
    encoders: Sequence[Any], tokenizers: Sequence[Any], files: Sequence[tuple[Path, str]]
) -> tuple[Words, Words]:
    """Give the encoders the vectors of these files; what each encoder calls the words.

    Args:
        encoders: SDXL's two, on the CPU.
        tokenizers: theirs.
        files: safetensors with `clip_l` and `clip_g`, each (vectors, D) or (D,), and the word; an
            empty one stands for the file's name without its ending.

    Raises:
        WeightsError: a file cannot be read, lacks the vectors for an encoder, has vectors that do
            not fit it, or its word is none or taken.
    """
    vectors: dict[str, tuple[torch.Tensor, ...]] = {}
    for file, given in files:
        try:
            word = (given or file.stem).lower()
            if not is_word(word):
                raise WeightsError("its name is no word for a prompt; give it a `token`")
            if word in vectors:
                raise WeightsError(f"the token {word} is another's already; give it one of its own")
            vectors[word] = _read(file, encoders)
        except (OSError, SafetensorError, WeightsError) as error:
            raise WeightsError(f"the embedding {file} cannot be used: {error}") from error
    if not vectors:
        return {}, {}
    first, second = (
        _extended(encoder, tokenizer, {word: of_both[place] for word, of_both in vectors.items()})
        for place, (encoder, tokenizer) in enumerate(zip(encoders, tokenizers, strict=True))
    )
    return first, second


def _read(file: Path, encoders: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """The vectors for each encoder: (vectors, D)."""
    tensors = load_file(file)
    if not set(_KEYS) <= set(tensors):
        raise WeightsError(
            f"expected clip_l and clip_g, got {', '.join(sorted(tensors)) or 'nothing'}; "
            "was it made for SDXL?"
        )
    found = tuple(tensors[key].reshape(-1, tensors[key].shape[-1]) for key in _KEYS)
    for key, rows, encoder in zip(_KEYS, found, encoders, strict=True):
        width = encoder.get_input_embeddings().weight.shape[1]
        if rows.shape[1] != width:
            raise WeightsError(f"expected {key} of width {width}, got {rows.shape[1]}")
    first, second = (len(rows) for rows in found)
    if first != second or not 1 <= first <= CHUNK_TOKENS:
        raise WeightsError(
            f"expected 1 to {CHUNK_TOKENS} vectors, as many in clip_l as in clip_g, "
            f"got {first} and {second}"
        )
    return found


def _extended(encoder: Any, tokenizer: Any, vectors: Mapping[str, torch.Tensor]) -> Words:
    """Append the vectors to the encoder's own; their places by word."""
    own = encoder.get_input_embeddings().weight.shape[0]
    total = own + sum(len(rows) for rows in vectors.values())
    weight = encoder.resize_token_embeddings(total, mean_resizing=False).weight.data
    words = {}
    for word, rows in vectors.items():
        words[word] = range(own, own + len(rows))
        weight[own : own + len(rows)] = rows
        own += len(rows)
    # SDXL's configurations make transformers take the highest token for the end of a prompt.
    for module in encoder.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = tokenizer.eos_token_id
    return words
