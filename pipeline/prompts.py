"""One prompt per face: texts split by `[SEP]`, faces left alone by `[SKIP]`."""

SEPARATOR = "[SEP]"
SKIP = "[SKIP]"


def split_prompt(prompt: str, faces: int) -> list[str]:
    """One text per face, in the faces' order; with fewer texts than faces the last serves the rest.

    >>> split_prompt("a smiling man [SEP] a girl", 3)
    ['a smiling man', 'a girl', 'a girl']
    """
    texts = [text.strip() for text in prompt.split(SEPARATOR)]
    return [texts[min(index, len(texts) - 1)] for index in range(faces)]


def is_skip(text: str) -> bool:
    """Whether this text asks to leave its face alone."""
    return text == SKIP
