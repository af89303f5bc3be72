"""`face-detailer detail` and `face-detailer weights`, with the embedded profile's own networks."""

import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from server.cli import main

# diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 advises against.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("tiny_on_cpu"),
]

EXAMPLE = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"
PARAMETERS = ["--prompt", "a face", "--denoise", "0.4", "--num-inference-steps", "15"]
RUN_AS_CLI = [sys.executable, "-c", "from server.cli import main; main()"]


@pytest.fixture
def refusal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `detail` with arguments that it must refuse, before it loads a model; its sentence."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["face-detailer", "detail", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        assert ending.value.code == 1
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("face-detailer: ")
        return lines[0].removeprefix("face-detailer: ")

    return run


@pytest.fixture
def detail(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, list[str]]]]:
    """Run `detail` in this process, which saves the time of importing torch anew.

    Its exit code, and what it told on standard error.
    """
    interrupt = signal.getsignal(signal.SIGINT)

    def run(*arguments: str | Path) -> tuple[int, list[str]]:
        command = ["face-detailer", "detail", *PARAMETERS, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ending:
            main()
        code = ending.value.code
        assert isinstance(code, int)
        lines = capfd.readouterr().err.splitlines()
        return code, [line for line in lines if line.startswith("face-detailer: ")]

    yield run
    signal.signal(signal.SIGINT, interrupt)


def empty_picture(file: Path, size_wh: tuple[int, int] = (96, 64)) -> Path:
    """A picture without a face."""
    PIL.Image.new("RGB", size_wh, (90, 120, 60)).save(file)
    return file


def read(file: Path) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(file.read_bytes()))
    image.load()
    return image


def test_steps_are_shown_of_one_picture_only(refusal: Callable[..., str], tmp_path: Path) -> None:
    sources = [empty_picture(tmp_path / name) for name in ("a.png", "b.png")]
    said = refusal(*sources, "-o", tmp_path / "out", *PARAMETERS, "--steps", tmp_path / "steps")
    assert said == "--steps takes one picture."


@pytest.mark.slow
def test_one_picture_to_a_file(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out.png"
    command = ["detail", str(EXAMPLE), "-o", str(output), "--upscale", "1", *PARAMETERS]
    answer = subprocess.run(
        [*RUN_AS_CLI, *command], capture_output=True, text=True, timeout=170, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"out\.png: [1-9]\d* faces?, \d+\.\d s, seed 12467$", answer.stdout.strip())
    assert "Profile tiny on cpu." in answer.stderr
    before, after = read(EXAMPLE).convert("RGB"), read(output)
    assert after.format == "PNG"
    assert after.size == before.size
    changed = (np.asarray(before) != np.asarray(after)).any(axis=2)
    assert 0 < changed.mean() < 0.6


def test_several_pictures_to_a_folder_and_a_broken_one_stops_none(
    tmp_path: Path, detail: Callable[..., tuple[int, list[str]]]
) -> None:
    """Each keeps name and format; with several samples each gets a number."""
    first = empty_picture(tmp_path / "first.png")
    second = empty_picture(tmp_path / "second.bmp")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xffno picture")
    missing = tmp_path / "missing.jpg"
    out = tmp_path / "out"
    code, told = detail(first, broken, missing, second, "-o", out, "--samples", "2")
    assert code == 1
    assert sorted(file.name for file in out.iterdir()) == [
        "first-1.png",
        "first-2.png",
        "second-1.jpg",
        "second-2.jpg",
    ]
    assert {read(file).size for file in out.iterdir()} == {(192, 128)}
    assert told == [
        f"face-detailer: {broken}: the file is broken or incomplete and cannot be read",
        f"face-detailer: {missing}: No such file or directory",
    ]


def test_an_input_is_replaced_only_when_that_is_asked_for(
    tmp_path: Path,
    refusal: Callable[..., str],
    detail: Callable[..., tuple[int, list[str]]],
) -> None:
    picture = empty_picture(tmp_path / "a.png")
    before = picture.read_bytes()
    for output in (picture, tmp_path):
        sentence = refusal(picture, "-o", output, *PARAMETERS)
        assert sentence == f"{picture} is an input: --overwrite allows to replace it."
    assert picture.read_bytes() == before
    assert detail(picture, "-o", picture, "--overwrite") == (0, [])
    assert read(picture).size == (192, 128)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_paths_that_cannot_be_meant_are_refused(
    tmp_path: Path, refusal: Callable[..., str]
) -> None:
    png, jpg = empty_picture(tmp_path / "a.png"), empty_picture(tmp_path / "a.jpg")
    out = tmp_path / "out"
    assert refusal(png, jpg, "-o", out, "--image-format", "webp", *PARAMETERS) == (
        f"Two results would be written to {out / 'a.webp'}."
    )
    assert "is no folder: several pictures" in refusal(png, jpg, "-o", "b.png", *PARAMETERS)
    assert "should end in .jpg" in refusal(png, "-o", tmp_path / "b.gif", *PARAMETERS)
    sentence = refusal(png, "-o", tmp_path / "b.jpg", "--image-format", "png", *PARAMETERS)
    assert sentence.endswith("b.jpg does not end like a png file.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--samples", "5"], "samples should be between 1 and 4"),
        (["--denoise", "much"], "Denoise is Mandatory and must be a number"),
        (["--upscale", "3"], "upscale"),
        (["--image-format", "gif"], "Invalid image_format. Allowed values are"),
    ],
)
def test_parameters_are_checked_as_the_api_does(
    tmp_path: Path, refusal: Callable[..., str], arguments: list[str], sentence: str
) -> None:
    picture = empty_picture(tmp_path / "a.png")
    assert sentence in refusal(picture, "-o", tmp_path / "b.png", *PARAMETERS, *arguments)


def test_weights_of_the_embedded_profile_are_listed_and_right(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for command in ("list", "verify"):
        monkeypatch.setattr(sys, "argv", ["face-detailer", "weights", command, "--profile", "tiny"])
        with pytest.raises(SystemExit) as ending:
            main()
        assert not ending.value.code
    lines = capfd.readouterr().out.splitlines()
    listed = next(line for line in lines if "upscaler/x2.safetensors" in line)
    assert listed.split()[-1] == "yes"
    assert re.fullmatch(r"All files of tiny are right\.", lines[-1])
