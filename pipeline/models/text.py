"""What prompts tell the UNet: SDXL's two text encoders, with a memory."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from pipeline.models.memory import NetworkMemory
from pipeline.models.walk import Conditioning

PROMPT_CACHE = 256


class TextEncoders:
    """SDXL's two text encoders and their tokenizers; remembers the latest prompts."""

    def __init__(
        self,
        tokenizers: Sequence[Any],
        encoders: Sequence[Any],
        memory: NetworkMemory | None = None,
    ) -> None:
        """`memory`: where the encoders are; None: they stay where they are."""
        self._tokenizers = tuple(tokenizers)
        self._encoders = tuple(encoders)
        self._memory = memory or NetworkMemory([], self._encoders[0].device)
        self._cache: OrderedDict[str, Conditioning] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """What works inside, by name."""
        return {f"text encoder {i}": encoder for i, encoder in enumerate(self._encoders, 1)}

    def __call__(self, prompt: str) -> Conditioning:
        """The prompt's first 77 tokens, as SDXL sees them."""
        # Held while encoding: tokenizers keep their padding and truncation as state.
        with self._lock:
            if prompt not in self._cache:
                self._cache[prompt] = self._encode(prompt)
                if len(self._cache) > PROMPT_CACHE:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(prompt)
            return self._cache[prompt]

    def _encode(self, prompt: str) -> Conditioning:
        hidden = []
        for tokenizer, encoder in zip(self._tokenizers, self._encoders, strict=True):
            tokens = tokenizer(
                prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
            )
            with self._memory.using(encoder):
                output = encoder(tokens.input_ids.to(encoder.device), output_hidden_states=True)
            # The last but one layer, and the pooled output of the second encoder: SDXL's choice.
            hidden.append(output.hidden_states[-2])
        return Conditioning(torch.cat(hidden, dim=-1), output.text_embeds)
