"""Texts that stand for pictures, read in pieces, as if they were read in one."""

import base64
import random
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest

from server.api import encoded
from server.api.json_bodies import LONG_BYTES, LongText, json_values
from server.errors import BadParameter

MIB = 2**20
DATA = random.Random(1).randbytes(MIB + 1)


def readings(text: bytes) -> Iterator[bytes]:
    return encoded.readings(b"x" + text + b"y", 1, 1 + len(text))


TEXT = base64.b64encode(DATA)


@pytest.mark.parametrize("shift", range(6))
@pytest.mark.parametrize("escaped", ["all", "some"])
def test_percent_signs_are_decoded_wherever_a_piece_ends(shift: int, escaped: str) -> None:
    data = b"a" * shift + DATA[:300_000]
    text = "".join(f"%{byte:02x}" for byte in data) if escaped == "all" else quote_from_bytes(data)
    assert unquote_to_bytes(text) == data
    assert list(readings(b"data:," + text.encode())) == [data]
    assert list(readings(b"data:image/png;base64," + quote_from_bytes(TEXT).encode())) == [DATA]


@pytest.mark.parametrize("text", [b"100%", b"%", b"%zz=%4", b"a%\nb", b"%2", b"%%41", b"=41%3D41"])
@pytest.mark.parametrize("shift", range(3))
def test_a_percent_sign_that_escapes_nothing_is_one(text: bytes, shift: int) -> None:
    for before in (b"", b"x" * (2**18 - shift - 1)):
        assert list(readings(b"data:," + before + text)) == [unquote_to_bytes(before + text)]


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("padding", [b"", b"=", b"==", b"=" * 300_000, b"=\n" * 200_000])
def test_base64_is_decoded_wherever_a_piece_ends(shift: int, padding: bytes) -> None:
    bare = base64.b64encode(DATA[shift:]).rstrip(b"=")
    assert next(readings(b"\n" * shift + bare + padding)) == DATA[shift:]


@pytest.mark.parametrize("width", [60, 64, 76, 78])
@pytest.mark.parametrize("by", [b"\n", b"\r\n  "])
def test_lines_are_put_together(width: int, by: bytes) -> None:
    text = by.join(TEXT[i : i + width] for i in range(0, len(TEXT), width))
    assert next(readings(text)) == DATA


def test_blanks_that_were_plus_signs_are_plus_signs() -> None:
    assert next(readings(TEXT.replace(b"+", b" "))) == DATA


@pytest.mark.parametrize("wrong", [b"QUJD!", b"QUJD=QUJD", b"Q", b"QUJD==" * 50_000, b"\xc3\xa4"])
def test_what_is_no_base64_is_nothing(wrong: bytes) -> None:
    assert list(readings(wrong)) == []


LINES = [TEXT[i : i + 76] for i in range(0, len(TEXT), 76)]
WRITTEN = {
    "plain": (TEXT, TEXT),
    "php": (TEXT.replace(b"/", rb"\/"), TEXT),
    "lines": (rb"\n".join(LINES), b"\n".join(LINES)),
    "umlauts": (rb"\u00e4" * 40_000, "ä".encode() * 40_000),
    "pairs": (rb"\ud83d\ude00" * 20_000, "\U0001f600".encode() * 20_000),
    "odd-pairs": (rb"a\ud83d\ude00" * 20_000, "a\U0001f600".encode() * 20_000),
    "halves": (rb"\ud83d" * 70_000, b"?" * 70_000),
    "slashes": (rb"\\" * 70_000, b"\\" * 70_000),
    "quotes": (rb"\"" * 20_000, b'"' * 20_000),
    "utf-8": ("ä".encode() * 40_000, "ä".encode() * 40_000),
}


@pytest.mark.parametrize(("written", "meant"), WRITTEN.values(), ids=WRITTEN)
def test_long_texts_are_what_json_says(written: bytes, meant: bytes) -> None:
    filler = b"x" * 2 * MIB
    body = b'{"a": [1, "%b", "b"], "p": "\\"", "image": "%b", "last": {"x": "%b"}}'
    values = json_values(bytearray(body % (written, written, filler)))
    one, listed, other = values["a"]
    assert (one, other) == (1, "b")
    for text in (values["image"], listed):
        assert str(text).encode() == meant
        assert isinstance(text, LongText) == (len(written) >= LONG_BYTES)
    assert (values["p"], set(values)) == ('"', {"a", "p", "image", "last"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"y": [%b1]}' % (b"1," * MIB),
        b'{"y": [%b1]}' % (b"[]," * MIB),
        b'{"y": [%b1]}' % (b'"ab",' * MIB),
        b'{"y": %b1}' % (b" " * 2 * MIB),
        b'{"y": "%b"}' % (rb"\"" * MIB),
    ],
    ids=["numbers", "lists", "texts", "blanks", "quotes"],
)
def test_much_beside_long_texts_is_refused(body: bytes) -> None:
    with pytest.raises(BadParameter, match="more than 1 MiB beside its pictures"):
        json_values(bytearray(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"y": "%b' % (b"x" * 2 * MIB),
        b'{"y": "%b}' % (b"x" * 2 * MIB),
        b'{"y": "%b"' % (b"x" * 2 * MIB),
        rb'{"y": "\x%b"}' % (b"x" * 2 * MIB),
        rb'{"y": "\u00g0%b"}' % (b"x" * 2 * MIB),
        b'{"y": "%b", y}' % (b"x" * 2 * MIB),
    ],
)
def test_a_large_body_that_is_no_json_is_told(body: bytes) -> None:
    with pytest.raises(BadParameter):
        json_values(bytearray(body))
