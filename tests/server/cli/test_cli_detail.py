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
import torch
from rich.console import Console

from pipeline.detailer import FaceDetailer
from server.cli import models
from server.cli.main import main
from server.engine.plan import Plan
from server.settings import Settings

# diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 advises against.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("tiny_on_cpu"),
]

EXAMPLE = Path(__file__).parents[3] / "examples" / "astronaut-damaged.jpg"
PARAMETERS = ["--prompt", "a face", "--denoise", "0.4", "--num-inference-steps", "15"]
RUN_AS_CLI = [sys.executable, "-c", "from server.cli.main import main; main()"]


@pytest.fixture
def refusal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `detail` with arguments that it must refuse with this exit code, before it loads a model;
    its sentence.
    """

    def run(*arguments: str | Path, code: int = 1) -> str:
        monkeypatch.setattr(sys, "argv", ["face-detailer", "detail", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        assert ending.value.code == code
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


def two_faces(file: Path) -> Path:
    """A face, and to the right of it, from x = 512 on, the same one at three quarters the size."""
    with PIL.Image.open(EXAMPLE) as face:
        both = PIL.Image.new("RGB", (896, 512), (90, 120, 60))
        both.paste(face.convert("RGB"), (0, 0))
        both.paste(face.convert("RGB").resize((384, 384)), (512, 64))
    both.save(file)
    return file


def read(file: Path) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(file.read_bytes()))
    image.load()
    return image


def test_steps_are_shown_of_one_picture_only(refusal: Callable[..., str], tmp_path: Path) -> None:
    sources = [empty_picture(tmp_path / name) for name in ("a.png", "b.png")]
    steps = ("--steps", tmp_path / "steps")
    said = refusal(*sources, "-o", tmp_path / "out", *PARAMETERS, *steps, code=2)
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
    assert re.search(r"Profile tiny on cpu, loaded in \d+\.\d s\.", answer.stderr)
    before, after = read(EXAMPLE).convert("RGB"), read(output)
    assert after.format == "PNG"
    assert after.size == before.size
    changed = (np.asarray(before) != np.asarray(after)).any(axis=2)
    assert 0 < changed.mean() < 0.6


@pytest.mark.slow
def test_a_picture_for_which_the_model_fails_stops_no_other(
    tmp_path: Path,
    detail: Callable[..., tuple[int, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The UNet answers NaN from the first picture on."""
    load = models.load_detailer

    def load_and_poison(settings: Settings, console: Console, chosen: Plan) -> FaceDetailer:
        detailer = load(settings, console, chosen)
        torch.nn.init.constant_(detailer._inpainter.networks["UNet"].conv_out.bias, float("nan"))
        return detailer

    monkeypatch.setattr(models, "load_detailer", load_and_poison)
    faceless, out = empty_picture(tmp_path / "faceless.png"), tmp_path / "out"
    code, told = detail(EXAMPLE, faceless, "-o", out)
    assert code == 1
    (sentence,) = told
    assert f"{EXAMPLE}: no face got a usable repaint" in sentence
    assert [file.name for file in out.iterdir()] == ["faceless.png"]


@pytest.mark.slow
def test_several_pictures_to_a_folder_and_a_broken_one_stops_none(
    tmp_path: Path, detail: Callable[..., tuple[int, list[str]]]
) -> None:
    """Each keeps name and format; with several samples each gets a number."""
    first = empty_picture(tmp_path / "first.png")
    second = empty_picture(tmp_path / "second.bmp")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xffno picture")
    out = tmp_path / "out"
    code, told = detail(first, broken, second, "-o", out, "--samples", "2")
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
    ]


@pytest.mark.slow
def test_an_input_is_replaced_only_when_that_is_asked_for(
    tmp_path: Path,
    refusal: Callable[..., str],
    detail: Callable[..., tuple[int, list[str]]],
) -> None:
    picture = empty_picture(tmp_path / "a.png")
    before = picture.read_bytes()
    for output in (picture, tmp_path):
        sentence = refusal(picture, "-o", output, *PARAMETERS)
        assert sentence == f"{picture} is an input: use --overwrite to replace it."
    assert picture.read_bytes() == before
    assert detail(picture, "-o", picture, "--overwrite") == (0, [])
    assert read(picture).size == (192, 128)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "data"]


def test_paths_that_cannot_be_meant_are_refused(
    tmp_path: Path, refusal: Callable[..., str]
) -> None:
    png, jpg = empty_picture(tmp_path / "a.png"), empty_picture(tmp_path / "a.jpg")
    out = tmp_path / "out"
    both = empty_picture(tmp_path / "a.png.jpg")
    assert refusal(png, jpg, both, "-o", out, "--image-format", "webp", *PARAMETERS) == (
        f"Two results would be written to {out / 'a.png.webp'}."
    )
    assert "is not a folder: several pictures" in refusal(
        png, jpg, "-o", "b.png", *PARAMETERS, code=2
    )
    assert "should end in .jpg" in refusal(png, "-o", tmp_path / "b.gif", *PARAMETERS, code=2)
    sentence = refusal(png, "-o", tmp_path / "b.jpg", "--image-format", "png", *PARAMETERS, code=2)
    assert sentence.endswith("b.jpg does not end like a png file.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--samples", "5"], "--samples should be between 1 and 4"),
        (["--denoise", "much"], "Denoise is Mandatory and must be a number"),
        (["--upscale", "3"], "--upscale"),
        (["--image-format", "gif"], "Invalid --image-format. Allowed values are"),
        (["--max-faces", "21"], "--max-faces should be between 0 and 20"),
        (
            ["--samples", "4", "--num-inference-steps", "75"],
            "ask for 600 steps a face, at most 500",
        ),
    ],
)
def test_parameters_are_checked_as_the_api_does(
    tmp_path: Path,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.setenv("FACE_DETAILER_MAX_REQUEST_STEPS", "500")
    picture = empty_picture(tmp_path / "a.png")
    said = refusal(picture, "-o", tmp_path / "b.png", *PARAMETERS, *arguments, code=2)
    assert sentence in said


@pytest.mark.slow
def test_a_picture_too_large_for_its_format_stops_none(
    tmp_path: Path,
    detail: Callable[..., tuple[int, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FACE_DETAILER_MAX_SIDE_PX", "20000")
    wide = empty_picture(tmp_path / "wide.png", (16384, 1))
    small = empty_picture(tmp_path / "small.png")
    out = tmp_path / "out"
    sentence = "image_format webp holds at most 16383 pixels a side"
    assert detail(wide, small, "-o", out, "--image-format", "webp") == (
        1,
        [f"face-detailer: {wide}: {sentence}"],
    )
    assert [file.name for file in out.iterdir()] == ["small.webp"]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [False, True])
def test_the_budget_of_steps_leaves_the_smaller_face_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], steps: bool
) -> None:
    """15 steps of two passes fit once."""
    monkeypatch.setenv("FACE_DETAILER_MAX_REQUEST_STEPS", "59")
    picture = two_faces(tmp_path / "two.png")
    shown = ["--steps", str(tmp_path / "steps")] if steps else []
    output = tmp_path / "out.png"
    arguments = [str(picture), "-o", str(output), "--upscale", "1", *PARAMETERS, *shown]
    monkeypatch.setattr(sys, "argv", ["face-detailer", "detail", *arguments])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 0
    assert ": 1 face, left out: budget=1, " in capfd.readouterr().out
    changed = (np.asarray(read(picture)) != np.asarray(read(output))).any(axis=2)
    assert changed[:, :512].any()
    assert not changed[:, 512:].any()


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
