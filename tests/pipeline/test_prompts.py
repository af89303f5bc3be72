"""Which prompt each face gets."""

import pytest

from pipeline.models.sdxl.prompts import weighted_parts
from pipeline.request import face_texts


@pytest.mark.parametrize(
    ("prompt", "faces", "texts"),
    [
        ("a man", 3, ["a man", "a man", "a man"]),
        ("a man [SEP] a girl", 3, ["a man", "a girl", "a girl"]),
        ("a man[SEP]a girl[SEP]a cat", 2, ["a man", "a girl"]),
        ("[SEP]a girl", 2, ["", "a girl"]),
        ("a man [SEP] ", 2, ["a man", ""]),
        ("", 2, ["", ""]),
        ("a man [sep] a girl", 2, ["a man", "a girl"]),
        ("[skip] [Sep] a girl [SEP] [Skip]", 3, [None, "a girl", None]),
        ("[SKIP][SEP]\na girl\n", 2, [None, "a girl"]),
        ("[ SKIP ] [SEP ] a girl [ sep ] [skip ]", 3, [None, "a girl", None]),
        ("[\tSkip\n][ SEP\u00a0][  SKIP]", 2, [None, None]),
        ("[S KIP] [SEP] [SKIP", 2, ["[S KIP]", "[SKIP"]),
        ("[SKIP] [SEP] don't [SKIP] me [SEP] ", 3, [None, "don't [SKIP] me", ""]),
        ("a man [SEP] [SKIP]", 3, ["a man", None, None]),
        ("a man", 0, []),
    ],
)
def test_texts_are_dealt_out_in_the_faces_order(prompt, faces, texts):
    assert face_texts(prompt, faces) == texts


@pytest.mark.slow
def test_parentheses_without_end_are_read_soon():
    """So deep that every level, worked through again, would take minutes."""
    deep = 20_000
    parts = weighted_parts("(" * deep + "face" + ")" * deep)
    assert any("face" in part.text for part in parts)
    assert max(part.weight for part in parts) == 10
