"""Prompts for training: what gives the words of the default prompts a meaning."""

import random

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
    """What a user asks for: subject, details, quality, and words (of `words`) that training gives
    no meaning to.
    """
    if rng.random() < 0.1:
        return ""
    parts = [rng.choice(SUBJECTS)] if rng.random() < 0.8 else []
    parts += rng.sample(DETAILS, rng.choice((0, 0, 1, 2)))
    parts += rng.sample(QUALITY, rng.choice((0, 1, 2, 3)))
    parts += rng.sample(words, rng.choice((0, 0, 1, 3)))
    rng.shuffle(parts)
    return rng.choice((", ", ", ", " ")).join(parts)


def draw_negative(rng: random.Random) -> str:
    """What a user does not want; the contract's default half of the time."""
    if rng.random() < 0.5:
        return DEFAULT_NEGATIVE
    return ", ".join(rng.sample(FAULTS, rng.randint(1, 5)))
