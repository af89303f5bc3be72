"""From a picture written as text, base64 or a data URI, to the bytes that it may stand for.

Texts are as long as a body may be, so they are read in pieces: nothing is split into a list, and
nobody waits for the interpreter for long.
"""

import binascii
import codecs
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final

Text = bytes | bytearray

_PIECE_BYTES: Final = 2**18
_DATA_URI = re.compile(rb"data:([^,]{0,4096}),", re.IGNORECASE)
_IS_BASE64 = re.compile(rb";\s*base64\s*$", re.IGNORECASE)
# Beside blanks, what is copied with a text and not seen: byte order marks, marks of the writing
# direction, blanks of no width, of a fixed width or without a break.
_EDGES: Final = (
    " \t\r\n\v\f\ufeff\u00a0\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202f\u2060\u3000"
)
# Each byte of them for itself, which may take more: none is a letter of base64.
_EDGE_BYTES: Final = _EDGES.encode()
_BLANKS: Final = b" \t\r\n\v\f"
_LINE_BREAKS: Final = b"\r\n\t"
# Enough to tell text from a picture file.
_BEGINNING_BYTES = 64
_TEXT = re.compile(b"[%b]*[\\s!-~]*" % re.escape(_EDGE_BYTES))
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_LINES_LOOKED_AT: Final = 10_000
_GAP = re.compile(rb" {1,4096}")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_URL_SAFE_AND_BLANK: Final = bytes.maketrans(b"-_ ", b"+/+")


def readings(text: Text, begin: int, end: int) -> Iterator[bytes]:
    """What a text may stand for, the likeliest first; nothing if it is no base64 and no data URI.

    The text is UTF-8, from `begin` to `end`.

    A byte order mark, line breaks, missing padding, percent signs and the URL-safe alphabet do no
    harm, nor does the plus sign that became a blank where a form was decoded once too often.
    """
    begin, end = _inner(text, begin, end)
    uri = _DATA_URI.match(text, begin, end)
    begin = uri.end() if uri else begin
    if uri and not _IS_BASE64.search(uri[1]):
        yield _percent_decoded(text, begin, end)
        return
    if text.find(b"%", begin, end) >= 0:
        text = _percent_decoded(text, begin, end)
        begin, end = 0, len(text)
    begin, end = _inner(text, begin, end)
    for blank_is_plus in _spellings(text, begin, end):
        try:
            yield _decoded(_pieces(text, begin, end), blank_is_plus=blank_is_plus)
        except binascii.Error:
            continue


def trimmed(text: str) -> str:
    """Without blanks, line breaks and invisible marks around it."""
    return text.strip(_EDGES)


def is_text(file: bytes) -> bool:
    """Whether a file begins with plain text."""
    return bool(_TEXT.fullmatch(file[:_BEGINNING_BYTES]))


def from_utf_16(file: bytes) -> bytes | None:
    """The plain text that a file holds in UTF-16 with a byte order mark; None for any other."""
    if not file.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    low, high = (2, 3) if file.startswith(codecs.BOM_UTF16_LE) else (3, 2)
    # Of ASCII every second byte is zero; nothing else is decoded.
    return None if file[high::2].strip(b"\0") else file[low::2]


def _inner(text: Text, begin: int, end: int) -> tuple[int, int]:
    """Where the text begins and ends without blanks around it."""
    for piece in _pieces(text, begin, end):
        kept = len(piece.lstrip(_EDGE_BYTES))
        begin += len(piece) - kept
        if kept:
            break
    while end > begin:
        piece = text[max(begin, end - _PIECE_BYTES) : end]
        kept = len(piece.rstrip(_EDGE_BYTES))
        end -= len(piece) - kept
        if kept:
            break
    return begin, end


def _pieces(text: Text, begin: int, end: int) -> Iterator[Text]:
    for at in range(begin, end, _PIECE_BYTES):
        yield text[at : min(at + _PIECE_BYTES, end)]


def _percent_decoded(text: Text, begin: int, end: int) -> bytes:
    """The text with the bytes that `%XX` stand for."""
    decoded = BytesIO()
    while begin < end:
        stop = min(begin + _PIECE_BYTES, end)
        # `%XX` is not cut in two.
        cut = text.rfind(b"%", max(begin + 1, stop - 2), stop)
        stop = cut if cut > 0 and stop < end else stop
        # Quoted-printable is the same but for the sign, and is decoded ten times as fast as by
        # urllib. A percent sign that stands for itself stays one, as in browsers.
        escaped = _STRAY_PERCENT.sub(b"%25", text[begin:stop])
        quoted = escaped.replace(b"=", b"=3D").replace(b"%", b"=")
        decoded.write(binascii.a2b_qp(quoted))
        begin = stop
    return decoded.getvalue()


def _spellings(text: Text, begin: int, end: int) -> tuple[bool, ...]:
    """Whether blanks are plus signs, the likelier first: they may also stand at line breaks."""
    if text.find(b" ", begin, end) < 0 or text.find(b"+", begin, end) >= 0:
        return (False,)
    return (False, True) if _is_wrapped(text, begin, end) else (True, False)


def _is_wrapped(text: Text, begin: int, end: int) -> bool:
    """Whether blanks split the text into lines of one length, a multiple of four; of many lines
    only the first are looked at.
    """
    one_line = BytesIO()
    for piece in _pieces(text, begin, end):
        one_line.write(piece.translate(None, _LINE_BREAKS))
    text = one_line.getvalue()
    begin, width = 0, text.find(b" ")
    for _ in range(_LINES_LOOKED_AT):
        blank = text.find(b" ", begin)
        if blank < 0:
            return 0 < len(text) - begin <= width
        if blank - begin != width or width % 4:
            return False
        gap = _GAP.match(text, blank)
        begin = gap.end() if gap else blank
    return True


def _decoded(pieces: Iterator[Text], *, blank_is_plus: bool) -> bytes:
    """The bytes of base64, whose padding may be missing or too long.

    Raises:
        binascii.Error: it is none.
    """
    table = _URL_SAFE_AND_BLANK if blank_is_plus else _URL_SAFE
    left_out = _LINE_BREAKS if blank_is_plus else _BLANKS
    decoded, rest, ended = BytesIO(), b"", False
    for piece in pieces:
        spelt = piece.translate(table, left_out)
        bare = spelt.rstrip(b"=")
        if b"=" in bare or (ended and bare):
            raise binascii.Error("there is more behind the padding")
        ended = ended or len(bare) < len(spelt)
        rest += bare
        whole = len(rest) // 4 * 4
        decoded.write(binascii.a2b_base64(rest[:whole], strict_mode=True))
        rest = rest[whole:]
    decoded.write(binascii.a2b_base64(rest + b"=" * (-len(rest) % 4), strict_mode=True))
    return decoded.getvalue()
