"""What prompts tell the UNet: SDXL's two text encoders, with a memory.

A long prompt is read in chunks, whose tokens stand one after another, as the field's user
interfaces do. Beginning and end of each are marked.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.models.sdxl.memory import NetworkMemory
from pipeline.models.sdxl.prompts import CHUNK_TOKENS, Chunk, Words, chunks_of

PROMPT_CACHE = 256


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What a prompt tells the UNet. `context`: (1, tokens, D). `pooled`: (1, P)."""

    context: torch.Tensor
    pooled: torch.Tensor


class TextEncoders:
    """SDXL's two text encoders and their tokenizers; remembers the latest prompts."""

    def __init__(
        self,
        tokenizers: Sequence[Any],
        encoders: Sequence[Any],
        memory: NetworkMemory | None = None,
        words: tuple[Words, Words] = ({}, {}),
    ) -> None:
        """`memory`: where the encoders are; None: they stay where they are. `words`: a user's own,
        as each encoder calls them.
        """
        self._tokenizers = tuple(tokenizers)
        self._words = words
        self._encoders = tuple(encoders)
        self._memory = memory or NetworkMemory([], self._encoders[0].device)
        self._cache: OrderedDict[str, Conditioning] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """What works inside, by name."""
        return {f"text encoder {i}": encoder for i, encoder in enumerate(self._encoders, 1)}

    def __call__(self, prompt: str) -> Conditioning:
        """A prompt, as SDXL sees it: 77 tokens a chunk."""
        # Held while encoding, so that a prompt of many faces is encoded once.
        with self._lock:
            if prompt not in self._cache:
                self._cache[prompt] = self._encode(prompt)
                if len(self._cache) > PROMPT_CACHE:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(prompt)
            return self._cache[prompt]

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is too long, which no encoder sees; else nothing."""
        return chunks_of(prompt, self._tokenizers[0], self._words[0])[1]

    def _encode(self, prompt: str) -> Conditioning:
        texts = [
            chunks_of(prompt, tokenizer, words)[0]
            for tokenizer, words in zip(self._tokenizers, self._words, strict=True)
        ]
        most = max(len(chunks) for chunks in texts)
        hidden = []
        for chunks, tokenizer, encoder in zip(texts, self._tokenizers, self._encoders, strict=True):
            chunks += [Chunk()] * (most - len(chunks))
            context, output = self._read(chunks, tokenizer, encoder)
            hidden.append(context)
        # The pooled output of the second encoder, of the first chunk: SDXL's choice.
        context = torch.cat(hidden, dim=-1).flatten(0, 1)[None]
        return Conditioning(context, output.text_embeds[:1])

    def _read(self, chunks: list[Chunk], tokenizer: Any, encoder: Any) -> tuple[torch.Tensor, Any]:
        """(chunks, 77, D), weighted, of the last but one layer; and all that the encoder gives."""
        weighs = any(weight != 1 for chunk in chunks for weight in chunk.weights)
        rows = [_framed(chunk, tokenizer) for chunk in ([*chunks, Chunk()] if weighs else chunks)]
        with self._memory.using(encoder):
            ids = torch.tensor(rows).to(self._memory.device)
            output = encoder(ids, output_hidden_states=True)
        hidden: torch.Tensor = output.hidden_states[-2]
        if weighs:
            hidden = _weigh(hidden[:-1], hidden[-1], chunks)
        return hidden, output


def _framed(chunk: Chunk, tokenizer: Any) -> list[int]:
    """77 tokens: beginning, the chunk's own, end, and padding."""
    padding = [tokenizer.pad_token_id] * (CHUNK_TOKENS - len(chunk.ids))
    return [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id, *padding]


def _weigh(hidden: torch.Tensor, empty: torch.Tensor, chunks: list[Chunk]) -> torch.Tensor:
    """Each token moved away from the same place of an empty prompt, or towards it, as ComfyUI
    does it.

    Args:
        hidden: (chunks, 77, D).
        empty: (77, D), what an empty prompt is to the encoder.
        chunks: what each token weighs.
    """
    weights = torch.ones(hidden.shape[:2])
    for row, chunk in zip(weights, chunks, strict=True):
        row[1 : 1 + len(chunk.weights)] = torch.tensor(chunk.weights)
    shares = weights.to(hidden.device)[..., None]
    moved = empty.float() + shares * (hidden - empty).float()
    # What weighs 1 stays as it is, to the bit.
    return torch.where(shares == 1, hidden, moved.to(hidden.dtype))
