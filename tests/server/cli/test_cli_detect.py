"""`face-detailer detect` with the embedded profile's own networks."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from file_limits import files_no_longer_than

from server.cli.main import main

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.png"


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_where_a_drawing_cannot_be_written_the_faces_are_listed_all_the_same(
    detect: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay.png"
    with files_no_longer_than(100_000):
        code, out, error = detect(ASTRONAUT, "--overlay", overlay)
    assert code == 1
    assert out.startswith("1 face.\n")
    assert "Drawn into" not in out
    assert f"{overlay}: File too large" in error
    assert not overlay.exists()


@pytest.mark.slow
def test_as_json_each_picture_is_a_line_also_one_that_fails(
    detect: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    broken, drawn, missing = tmp_path / "broken.png", tmp_path / "drawn", tmp_path / "missing.png"
    broken.write_bytes(ASTRONAUT.read_bytes()[:1000])
    code, out, _ = detect(broken, ASTRONAUT, missing, "--json", "--overlay", f"{drawn}/")
    assert code == 1
    lines = {line["source"]: line for line in map(json.loads, out.splitlines())}
    assert lines.keys() == {str(broken), str(ASTRONAUT), str(missing)}
    assert lines[str(ASTRONAUT)]["overlay"] == str(next(drawn.iterdir()))
    assert len(lines[str(ASTRONAUT)]["faces"]) == 1
    assert "broken or incomplete" in lines[str(broken)]["error"]
    assert str(missing) in lines[str(missing)]["error"]


@pytest.mark.slow
def test_what_was_left_out_is_listed_with_its_reason(
    detect: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, _ = detect(ASTRONAUT, "--min-face-px", "200")
    assert code == 0
    assert out.startswith("0 faces.\n")
    assert "smaller than --min-face-px" in out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["--max-faces", "many"],
            2,
            "--max-faces: Inputs which are supposed to be numbers are in alphabet",
        ),
        (
            ["--overlay", "drawn.gif"],
            2,
            "drawn.gif should end in .jpg, .jpeg, .png or .webp, or in / for a folder.",
        ),
        (
            ["--overlay", ASTRONAUT],
            1,
            f"{ASTRONAUT} is the input: the overlay needs a file of its own.",
        ),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(
    detect: Callable[..., tuple[int, str, str]],
    arguments: list[str | Path],
    code: int,
    sentence: str,
) -> None:
    assert detect(ASTRONAUT, *arguments) == (code, "", f"face-detailer: {sentence}\n")


def test_an_overlay_too_large_for_its_format_is_refused(
    detect: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACE_DETAILER_MAX_SIDE_PX", "20000")
    wide = tmp_path / "wide.png"
    PIL.Image.new("RGB", (16384, 1)).save(wide)
    sentence = "image_format webp holds at most 16383 pixels a side"
    overlay = tmp_path / "drawn.webp"
    assert detect(wide, "--overlay", overlay) == (1, "", f"face-detailer: {wide}: {sentence}\n")


def test_a_file_that_is_no_picture_is_refused(
    detect: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    file = tmp_path / "notes.txt"
    assert detect(file) == (1, "", f"face-detailer: {file}: No such file or directory\n")
    file.write_text("no picture")
    code, out, err = detect(file)
    assert (code, out) == (1, "")
    assert err.startswith(f"face-detailer: {file}: the file is not a PNG")


@pytest.mark.slow
def test_several_pictures_are_listed_one_after_the_other(
    detect: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    folder, drawn, missing = tmp_path / "in", tmp_path / "drawn", tmp_path / "none.jpg"
    (folder / "deep").mkdir(parents=True)
    PIL.Image.new("RGB", (48, 32)).save(folder / "grey.png")
    with PIL.Image.open(ASTRONAUT) as picture:
        picture.convert("RGB").save(folder / "deep" / "face.jpg")
    code, out, err = detect(folder, missing, "--overlay", f"{drawn}/")
    assert code == 1
    assert f"face-detailer: {missing}: No such file or directory\n" in err
    assert f"{folder}/deep/face.jpg: 1 face.\n" in out
    assert f"{folder}/grey.png: 0 faces.\n" in out
    files = {str(file.relative_to(drawn)) for file in drawn.rglob("*") if file.is_file()}
    assert files == {"grey.png", "deep/face.jpg"}
    code, out, _ = detect(folder, "--json")
    told = {Path(line["source"]).name: line for line in map(json.loads, out.splitlines())}
    assert (code, {name: len(line["faces"]) for name, line in told.items()}) == (
        0,
        {"grey.png": 0, "face.jpg": 1},
    )
