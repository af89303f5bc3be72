"""docs/weights.md lists every key of a profile, with what it allows."""

import re

from pages import ROOT, tables

from pipeline.config import Profile
from pipeline.config_faults import allowed_values

ROWS = next(table for table in tables(ROOT / "docs" / "weights.md") if table[0][0] == "key")


def test_every_key_is_listed_with_what_it_allows() -> None:
    listed = {key: row[1] for row in ROWS[1:] for key in re.findall(r"`([^`]+)`", row[0])}
    tables_themselves = {
        "detector",
        "segmenter",
        "outline",
        "detail",
        "inpainter",
        "upscaler",
        "identity",
    }
    allowed = allowed_values(Profile)
    assert listed == {key: text for key, text in allowed.items() if key not in tables_themselves}


def test_every_key_is_explained() -> None:
    assert all(len(row) == 3 and row[2] for row in ROWS)
