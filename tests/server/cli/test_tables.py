"""How the commands print tables."""

import re

import pytest

from server.cli.tables import print_table


def test_text_is_printed_as_it_is_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A key's name may look like markup, and a pipe is as wide as it needs to be."""
    print_table(("[b]name", "size"), [("[red]key[/red]", "1"), ("x" * 300, "2")])
    shown = capsys.readouterr().out
    assert "[b]name" in shown
    assert "[red]key[/red]" in shown
    assert "x" * 300 + "\t2\n" in shown
    # What is no wider than a terminal usually is gets its columns there too.
    print_table(("name", "size"), [("a", "1"), ("x" * 60, "2")])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("columns", [3, 12])
def test_nothing_is_cut_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Long cells are folded; with many columns, each row is a list."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"column {number}" for number in range(columns)]
    rows = [("level", "unet/diffusion_pytorch_model.fp16.safetensors" * 2, *["5135149760"] * 10)]
    print_table(names, [row[:columns] for row in rows])
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(len(line) for line in shown.splitlines()) <= 110
    squeezed = "".join(shown.split())
    for text in [*names, "level", "5135149760"][: columns + 2]:
        assert text.replace(" ", "") in squeezed
    if columns == 3:
        path = "".join(re.findall(r"[a-z_.0-9/]{20,}", shown))
        assert path == rows[0][1]
