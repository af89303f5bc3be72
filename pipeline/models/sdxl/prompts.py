"""Prompts as users write them: of any length, and with weights in parentheses.

Weights are written as in ComfyUI and AUTOMATIC1111's web UI, and square brackets are text, as in
the former: `[SEP]` and `[SKIP]` have their own meaning here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

# What an encoder reads at a time, without the marks of beginning and end.
CHUNK_TOKENS = 75
# A prompt's chunks. UNet time grows with them, and a prompt may be as long as a request's body.
MOST_CHUNKS = 4
# Of what is not read, for log and header: as many are shown.
SHOWN_TOKENS = 100
# What parentheses without a number multiply a weight with.
EMPHASIS = 1.1
MOST_WEIGHT = 10.0
# Parentheses in more of them than this are text: each level is worked through again.
_MOST_LEVELS = 50

# A user's own words (textual inversion), in lower case: their vectors' places among an encoder's.
Words = Mapping[str, range]

_PIECES = re.compile(r"\\[()]|[()]|[^\\()]+|\\")
_NUMBER = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a prompt, and how much it weighs; usually 1."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most `CHUNK_TOKENS` tokens, and what each weighs."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


def weighted_parts(prompt: str) -> list[Part]:
    r"""A prompt's parts by weight. `\(` and `\)` are parentheses that mean nothing, as is one
    without its other half.

    >>> weighted_parts("a (red:1.2) face")
    [Part(text='a ', weight=1.0), Part(text='red', weight=1.2), Part(text=' face', weight=1.0)]
    """
    levels: list[list[Part]] = [[]]
    for piece in _PIECES.findall(prompt):
        if piece == "(" and len(levels) <= _MOST_LEVELS:
            levels.append([])
        elif piece == ")" and len(levels) > 1:
            inner = levels.pop()
            levels[-1] += _emphasised(inner)
        else:
            levels[-1].append(Part(piece[-1] if piece in (r"\(", r"\)") else piece))
    while len(levels) > 1:
        inner = levels.pop()
        levels[-1] += [Part("("), *inner]
    return _joined(levels[0])


def _emphasised(parts: list[Part]) -> list[Part]:
    """What stood in parentheses, with a number at its end or without one."""
    factor = EMPHASIS
    number = _NUMBER.search(parts[-1].text) if parts and parts[-1].weight == 1 else None
    if number:
        factor = float(number[1])
        parts = [*parts[:-1], Part(parts[-1].text[: number.start()])]
    most = MOST_WEIGHT
    return [Part(part.text, max(-most, min(part.weight * factor, most))) for part in parts]


def _joined(parts: list[Part]) -> list[Part]:
    """Neighbours of one weight are one part: a word is not cut where its parentheses are text."""
    joined: list[Part] = []
    for part in parts:
        if joined and joined[-1].weight == part.weight:
            part = Part(joined.pop().text + part.text, part.weight)
        if part.text:
            joined.append(part)
    return joined


@dataclass(frozen=True, slots=True)
class _Token:
    """`ends`: whether a word ends with it. `word`: a user's own, of which it is a vector, in the
    first one's token; "" in the others; None: the tokenizer's.
    """

    id: int
    weight: float
    ends: bool
    word: str | None = None


def chunks_of(prompt: str, tokenizer: Any, words: Words) -> tuple[list[Chunk], str]:
    """What an encoder reads of a prompt, one chunk at least; and the beginning of what it does not.

    Args:
        prompt: any text.
        tokenizer: CLIP's.
        words: a user's own.
    """
    tokens = [
        token
        for part in weighted_parts(prompt)
        for text, word in _by_word(part.text, words)
        for token in (
            _own(word, words, part.weight) if word else _tokens(text, part.weight, tokenizer)
        )
    ]
    bounds = _bounds([token.ends for token in tokens])
    read = bounds[: MOST_CHUNKS + 1]
    chunks = [
        Chunk(tuple(token.id for token in group), tuple(token.weight for token in group))
        for group in (tokens[a:b] for a, b in pairwise(read))
    ]
    left = tokens[read[-1] :]
    unread = _shown(left[:SHOWN_TOKENS], tokenizer) + " …" * (len(left) > SHOWN_TOKENS)
    return chunks or [Chunk()], unread


def _by_word(text: str, words: Words) -> Iterator[tuple[str, str | None]]:
    """The text's stretches in turn, and which of the user's own words each is, if any."""
    if not words:
        yield text, None
        return
    longest_first = sorted(words, key=len, reverse=True)
    # ComfyUI's users write `embedding:` before them.
    pattern = rf"(?<!\w)(?:embedding:)?({'|'.join(map(re.escape, longest_first))})(?!\w)"
    for place, piece in enumerate(re.split(pattern, text, flags=re.IGNORECASE)):
        word = piece.lower()
        # Unicode has letters that match others of which they are no lower case: "ſ" and "s".
        yield piece, word if place % 2 and word in words else None


def _own(word: str, words: Words, weight: float) -> list[_Token]:
    ids = words[word]
    return [_Token(i, weight, i == ids[-1], word if i == ids[0] else "") for i in ids]


def _tokens(text: str, weight: float, tokenizer: Any) -> list[_Token]:
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    names = tokenizer.convert_ids_to_tokens(ids)
    return [_Token(i, weight, name.endswith("</w>")) for i, name in zip(ids, names, strict=True)]


def _shown(tokens: list[_Token], tokenizer: Any) -> str:
    """The text that they were."""
    shown = []
    for is_own, run in groupby(tokens, key=lambda token: token.word is not None):
        group = list(run)
        shown += (
            [token.word for token in group if token.word]
            if is_own
            else [tokenizer.decode([token.id for token in group])]
        )
    return " ".join(shown)


def _bounds(ends: Sequence[bool]) -> list[int]:
    """Where chunks begin and the last one ends: between words, where a word is no longer than one.

    `ends`: whether each token ends a word.
    """
    bounds = [0]
    while bounds[-1] < len(ends):
        start = bounds[-1]
        stop = min(start + CHUNK_TOKENS, len(ends))
        whole = stop
        while whole > start and not ends[whole - 1]:
            whole -= 1
        bounds.append(whole if whole > start else stop)
    return bounds
