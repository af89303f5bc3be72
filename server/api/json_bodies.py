"""JSON bodies that are large because a picture stands in them as text.

No JSON library lets go of the interpreter while it works: 50 MB hold everybody up, for a tenth of
a second if they are one text, for many if they are small values. So long texts are taken out first,
piece by piece, and what is left for the library is small.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from server.errors import BadParameter

LONG_BYTES: Final = 2**16
_MOST_BESIDE_TEXTS: Final = 2**20
_MOST_QUOTES: Final = 100_000
# One letter or escape, or many letters; half a surrogate pair only where the other half is missing.
_PIECE = re.compile(
    rb"(?:[^\\]{1,4096}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u[0-9a-fA-F]{4}|\\[^u]){1,4096}",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class LongText:
    """A text of more than `LONG_BYTES` in UTF-8, from `begin` to `end` of what was received."""

    data: bytearray = field(repr=False)
    begin: int
    end: int

    def __len__(self) -> int:
        """In bytes."""
        return self.end - self.begin

    def __str__(self) -> str:
        return self.data[self.begin : self.end].decode("utf-8", "replace")


SentImage = str | bytes | LongText
"""The picture of a request, not looked at yet: a URL, base64 or data URI, or a file's bytes."""


def json_values(body: bytearray) -> Mapping[str, object]:
    """The values of a JSON object by name. Long texts, and those in a list, become `LongText`.

    `body` is used up: long texts are unescaped where they stand, and stay there.

    Raises:
        BadParameter: it is no JSON object, or there is more than a MiB of it beside long texts.
    """
    texts: dict[str, LongText] = {}
    if len(body) > _MOST_BESIDE_TEXTS:
        body = _without_long_texts(body, texts)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadParameter("The body is not valid JSON") from error
    if not isinstance(values, dict):
        raise BadParameter("The body must be a JSON object")
    return {name: _restored(value, texts) for name, value in values.items()} if texts else values


def _restored(value: object, texts: Mapping[str, LongText]) -> object:
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, list):
        return [texts.get(item, item) if isinstance(item, str) else item for item in value]
    return value


def _without_long_texts(body: bytearray, texts: dict[str, LongText]) -> bytearray:
    """The body with a name that nobody can guess for each long text, which goes to `texts`."""
    rest = bytearray()
    unguessable = secrets.token_hex(16)
    at = quotes = 0
    while (begin := body.find(b'"', at)) >= 0:
        end, escaped = _end_of_text(body, begin + 1)
        quotes += 1 + escaped
        is_long = end - begin > LONG_BYTES
        name = f"{unguessable} {len(texts)}"
        kept = begin if is_long else end
        if len(rest) + kept - at > _MOST_BESIDE_TEXTS or quotes > _MOST_QUOTES:
            break
        rest += body[at:kept]
        if is_long:
            texts[name] = _unescaped(body, begin + 1, end - 1)
            rest += f'"{name}"'.encode()
        at = end
    if len(rest) + len(body) - at > _MOST_BESIDE_TEXTS:
        raise BadParameter("The body has more than 1 MiB beside its pictures")
    return rest + body[at:]


def _end_of_text(body: bytearray, begin: int) -> tuple[int, int]:
    """Where the text that begins here ends, behind its quote, and how many quotes it has."""
    at, escaped = begin, 0
    while (end := body.find(b'"', at)) >= 0:
        slashes = end - _before_slashes(body, at, end)
        if slashes % 2 == 0:
            return end + 1, escaped
        at, escaped = end + 1, escaped + 1
        if escaped > _MOST_QUOTES:
            break
    return len(body), escaped


def _before_slashes(body: bytearray, begin: int, end: int) -> int:
    """Where the backslashes begin that stand right before `end`."""
    while end > begin:
        piece = body[max(begin, end - LONG_BYTES) : end]
        kept = len(piece.rstrip(b"\\"))
        if kept:
            return end - len(piece) + kept
        end -= len(piece)
    return end


def _unescaped(body: bytearray, begin: int, end: int) -> LongText:
    written = end
    if body.find(b"\\", begin, end) >= 0:
        written = read = begin
        while read < end:
            piece = _PIECE.match(body, read, end)
            if piece is None:
                raise BadParameter("The body is not valid JSON")
            read = piece.end()
            letters = _letters(piece[0])
            body[written : written + len(letters)] = letters
            written += len(letters)
    return LongText(body, begin, written)


def _letters(escaped: bytes) -> bytes:
    """What a text of JSON stands for, in UTF-8: no longer than itself."""
    try:
        letters: str = json.loads(b'"%b"' % escaped, strict=False)
    except ValueError as error:
        raise BadParameter("The body is not valid JSON") from error
    # Half a surrogate pair is no letter.
    return letters.encode("utf-8", "replace")
