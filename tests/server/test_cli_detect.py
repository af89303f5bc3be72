"""`face-detailer detect` with the embedded profile's own networks."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from server.cli import main

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"


@pytest.fixture
def detect(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `detect` in this process; its exit code, standard output and error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["face-detailer", "detect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        return int(ending.value.code or 0), *capfd.readouterr()

    return run


def test_faces_are_listed_and_drawn(detect: Callable[..., tuple[int, str, str]], tmp_path: Path):
    overlay = tmp_path / "new" / "overlay.png"
    code, out, _ = detect(ASTRONAUT, "--overlay", overlay)
    assert code == 0
    assert out.startswith("1 face.\n")
    number, score, x, y, width, height = next(
        line.split() for line in out.splitlines()[1:] if line.strip().startswith("1 ")
    )
    assert (int(number), float(score) > 0.5) == (1, True)
    found = [int(value) for value in (x, y, width, height)]
    assert found == pytest.approx([180, 70, 92, 108], abs=12)
    with PIL.Image.open(overlay) as drawn, PIL.Image.open(ASTRONAUT) as picture:
        assert (drawn.format, drawn.size) == ("PNG", picture.size)
        change = np.any(np.asarray(drawn) != np.asarray(picture.convert("RGB")), axis=2)
    assert change[90:160, 195:255].mean() > 0.9
    assert change.mean() < 0.2


def test_what_was_left_out_is_listed_with_its_reason(
    detect: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, _ = detect(ASTRONAUT, "--min-face-px", "200")
    assert code == 0
    assert out.startswith("0 faces.\n")
    assert "smaller than --min-face-px" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-faces", "many"], "Inputs which are supposed to be numbers are in alphabet"),
        (["--overlay", "drawn.gif"], "drawn.gif should end in .jpg, .jpeg, .png or .webp."),
        (
            ["--overlay", ASTRONAUT],
            f"{ASTRONAUT} is the input: the overlay needs a file of its own.",
        ),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(
    detect: Callable[..., tuple[int, str, str]], arguments: list[str | Path], sentence: str
) -> None:
    assert detect(ASTRONAUT, *arguments) == (1, "", f"face-detailer: {sentence}\n")


def test_a_file_that_is_no_picture_is_refused(
    detect: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    file = tmp_path / "notes.txt"
    assert detect(file) == (1, "", f"face-detailer: {file}: No such file or directory\n")
    file.write_text("no picture")
    code, out, err = detect(file)
    assert (code, out) == (1, "")
    assert err.startswith(f"face-detailer: {file}: the file is not a PNG")
