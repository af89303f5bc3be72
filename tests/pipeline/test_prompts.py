"""Which prompt each face gets."""

import pytest

from pipeline.prompts import is_skip, split_prompt


@pytest.mark.parametrize(
    ("prompt", "faces", "texts"),
    [
        ("a man", 3, ["a man", "a man", "a man"]),
        ("a man [SEP] a girl", 3, ["a man", "a girl", "a girl"]),
        ("a man[SEP]a girl[SEP]a cat", 2, ["a man", "a girl"]),
        ("[SEP]a girl", 2, ["", "a girl"]),
        ("a man [SEP] ", 2, ["a man", ""]),
        ("", 2, ["", ""]),
        ("a man, [sep] and text", 1, ["a man, [sep] and text"]),
        ("[SKIP][SEP]\na girl\n", 2, ["[SKIP]", "a girl"]),
        ("a man", 0, []),
    ],
)
def test_texts_are_dealt_out_in_the_faces_order(prompt, faces, texts):
    assert split_prompt(prompt, faces) == texts


def test_skip_stands_alone():
    assert [is_skip(text) for text in split_prompt("[SKIP] [SEP] don't [SKIP] me [SEP] ", 3)] == [
        True,
        False,
        False,
    ]
