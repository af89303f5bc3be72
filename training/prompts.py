"""Prompts for training, so that the words of common prompts mean something to the network."""

import random

import torch
from transformers import CLIPTokenizer

from training import common

SUBJECTS = (
    "a man",
    "a woman",
    "a girl",
    "a boy",
    "a child",
    "a baby",
    "an old man",
    "an old woman",
    "a person",
    "a young woman",
    "a young man",
    "face",
    "a face",
    "portrait of a man",
    "portrait of a woman",
    "a smiling woman",
    "photo of a person",
    "close up of a face",
    "an astronaut",
    "a couple",
    "people",
    "man with glasses",
)
DETAILS = (
    "brown eyes",
    "blue eyes",
    "green eyes",
    "smiling",
    "long hair",
    "short hair",
    "beard",
    "glasses",
    "outdoors",
    "in a street",
    "natural light",
    "studio light",
    "freckles",
    "looking at the camera",
    "serious",
    "happy",
)
QUALITY = (
    "high quality",
    "best quality",
    "masterpiece",
    "highly detailed",
    "detailed face",
    "sharp",
    "sharp focus",
    "4k",
    "8k",
    "hd",
    "photo",
    "photograph",
    "realistic",
    "photorealistic",
    "professional photo",
    "detailed skin",
    "dslr",
    "perfect face",
    "beautiful face",
    "high resolution",
    "raw photo",
    "detailed eyes",
    "clear",
)
FAULTS = (
    "bad quality",
    "painting",
    "blur",
    "blurry",
    "low quality",
    "worst quality",
    "noise",
    "jpeg artifacts",
    "drawing",
    "lowres",
    "pixelated",
    "out of focus",
    "ugly",
    "deformed",
    "cartoon",
    "grainy",
    "disfigured",
    "soft",
    "sketch",
)
DEFAULT_NEGATIVE = "bad quality, painting, blur"


def draw_prompt(rng: random.Random, words: list[str]) -> str:
    """A prompt as users write it: subject, details, quality, and some random words of `words`."""
    if rng.random() < 0.1:
        return ""
    parts = [rng.choice(SUBJECTS)] if rng.random() < 0.8 else []
    parts += rng.sample(DETAILS, rng.choice((0, 0, 1, 2)))
    parts += rng.sample(QUALITY, rng.choice((0, 1, 2, 3)))
    parts += rng.sample(words, rng.choice((0, 0, 1, 3)))
    rng.shuffle(parts)
    return rng.choice((", ", ", ", " ")).join(parts)


def draw_negative(rng: random.Random) -> str:
    """A negative prompt; half of the time the contract's default."""
    if rng.random() < 0.5:
        return DEFAULT_NEGATIVE
    return ", ".join(rng.sample(FAULTS, rng.randint(1, 5)))


class Prompts:
    """Tokenized prompts, drawn at random."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._tokenizers = [
            CLIPTokenizer.from_pretrained(common.TINY_DIR / name)
            for name in ("tokenizer", "tokenizer_2")
        ]
        vocab = self._tokenizers[0].get_vocab()
        self._words = sorted(
            word[:-4] for word in vocab if word.endswith("</w>") and word[:-4].isalpha()
        )

    def tokenize(self, texts: list[str]) -> list[torch.Tensor]:
        """The ids of both tokenizers, (N, 77) each."""
        options = {
            "padding": "max_length",
            "max_length": 77,
            "truncation": True,
            "return_tensors": "pt",
        }
        return [tokenizer(texts, **options).input_ids for tokenizer in self._tokenizers]

    def draw(self, negative: torch.Tensor) -> list[torch.Tensor]:
        """Random ids for a batch; `negative`: (N,) bool, which rows get a negative prompt."""
        return self.tokenize(
            [
                draw_negative(self._rng) if bad else draw_prompt(self._rng, self._words)
                for bad in negative
            ]
        )
