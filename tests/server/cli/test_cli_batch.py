"""`face-detailer detail` on folders, globs and standard input: what is done, skipped, refused."""

import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from server.cli.main import main

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("tiny_on_cpu"),
]

EXAMPLE = Path(__file__).parents[3] / "examples" / "astronaut-damaged.jpg"
QUICK = ("--denoise", "0", "--upscale", "1")
Detail = Callable[..., tuple[int, str, str]]


@pytest.fixture
def detail(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Detail:
    """Run `detail` in this process; its exit code, standard output and error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["face-detailer", "detail", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        return int(ending.value.code or 0), *capfd.readouterr()

    return run


def picture(file: Path, grey: int = 90) -> Path:
    """Without a face, and small."""
    file.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (48, 32), (grey, grey, 60)).save(file)
    return file


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refused(answer: tuple[int, str, str], code: int = 1) -> str:
    """The one sentence, which ends with this exit code; nothing was loaded for it."""
    ended, out, err = answer
    assert (ended, out) == (code, "")
    (line,) = err.splitlines()
    return line.removeprefix("face-detailer: ")


@pytest.mark.slow
def test_a_folder_is_done_once_and_again_what_has_changed(detail: Detail, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    first, _ = picture(folder / "a.png"), picture(folder / "deep" / "b.jpg")
    picture(folder / ".hidden" / "c.jpg")
    (folder / "notes.txt").write_text("no picture")
    code, out, err = detail(folder, *QUICK)
    assert code == 0, err
    assert f"{first} → {folder / 'a-detailed.png'}: 0 faces" in out
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    assert "Loading profile tiny on cpu" in err
    expected = ["a-detailed.png", "a.png", "deep/b-detailed.jpg", "deep/b.jpg", "notes.txt"]
    assert files(folder) == [".hidden/c.jpg", *expected]
    # Everything is there: no model is loaded.
    code, out, err = detail(folder, *QUICK)
    assert (code, out.count("finished before, skipped")) == (0, 2)
    assert "Loading" not in err
    # Another picture under an old name, and a result that is gone.
    picture(first, grey=120)
    (folder / "deep" / "b-detailed.jpg").unlink()
    picture(folder / "new.webp")
    code, out, err = detail(folder, *QUICK, "--json", "--jobs", "2")
    assert code == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert {Path(line["source"]).name: line["status"] for line in told} == {
        "a.png": "done",
        "b.jpg": "done",
        "new.webp": "done",
    }
    assert all(line["faces"]["found"] == 0 and line["seed"] == 12467 for line in told)
    # Other options are other work; results of this command make way for it.
    assert "skipped" in detail(folder, *QUICK)[1]
    code, out, _ = detail(folder, *QUICK, "--seed", "1")
    assert (code, "skipped" in out) == (0, False)
    assert "done" in out
    assert detail(folder, *QUICK, "--seed", "1", "--no-resume")[1].count("→") == 3


@pytest.mark.slow
def test_the_identity_gate_is_told_of_and_another_threshold_is_other_work(
    detail: Detail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No repaint reaches such a cosine: the face stays as it was."""
    out = tmp_path / "out.png"
    command = ("-o", out, "--upscale", "1")
    for threshold, outcome in (("0.99999", "left"), ("0.1", "kept")):
        monkeypatch.setenv("FACE_DETAILER_IDENTITY", threshold)
        code, told, err = detail(EXAMPLE, *command, "--resume", "--json")
        assert code == 0, err
        (judged,) = json.loads(told)["identity"]
        assert (judged["face"], judged["sample"], judged["outcome"]) == (1, 1, outcome)
        assert 0.5 < judged["cosine"] < 1
        same = PIL.Image.open(out).tobytes() == PIL.Image.open(EXAMPLE).convert("RGB").tobytes()
        assert same is (outcome == "left")
    told = detail(EXAMPLE, *command)[1]
    assert re.search(r"1 face, identity: 1:kept=0\.\d{3}, \d", told)


@pytest.mark.slow
def test_equal_names_keep_their_folders_and_standard_streams_are_files(
    detail: Detail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = picture(tmp_path / "x" / "a.png"), picture(tmp_path / "y" / "a.png", 10)
    out = tmp_path / "out"
    assert detail(one, two, "-o", out, *QUICK)[0] == 0
    assert files(out) == ["x/a.png", "y/a.png"]
    alone = tmp_path / "alone"
    assert detail(tmp_path / "x", "-o", alone, *QUICK)[0] == 0
    assert files(alone) == ["a.png"]
    globbed = tmp_path / "globbed"
    assert detail(tmp_path / "[xy]" / "*.png", "-o", globbed, *QUICK)[0] == 0
    assert files(globbed) == ["x/a.png", "y/a.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(one.read_bytes())))
    target = tmp_path / "from-stdin.webp"
    assert detail("-", "-o", target, *QUICK)[0] == 0
    with PIL.Image.open(target) as image:
        assert (image.format, image.size) == ("WEBP", (48, 32))


@pytest.mark.slow
def test_results_of_earlier_runs_are_no_pictures(detail: Detail, tmp_path: Path) -> None:
    """Neither those named with their pictures' endings, nor those below OUT."""
    folder = tmp_path / "q"
    picture(folder / "a.bmp"), picture(folder / "a.jpg", 10)
    for _ in range(2):
        assert detail(folder, *QUICK)[0] == 0
    beside = ["a.bmp", "a.bmp-detailed.jpg", "a.jpg", "a.jpg-detailed.jpg"]
    assert files(folder) == beside
    (tmp_path / "link").symlink_to(folder)
    out = folder / "out"
    out.mkdir()
    for given in (folder, folder, tmp_path / "link"):
        assert detail(given / "**" / "?.jpg", "-o", out, *QUICK)[0] == 0
        assert files(out) == ["a.jpg"]
    # A glob that begins in OUT asks for what is there.
    assert "is an input" in refused(detail(out / "*.jpg", "-o", out, *QUICK))


@pytest.mark.slow
def test_a_result_that_was_changed_or_is_another_file_is_kept(
    detail: Detail, tmp_path: Path
) -> None:
    source, target = picture(tmp_path / "a.png"), tmp_path / "a-detailed.png"
    target.write_bytes(b"somebody's own")
    sentence = refused(detail(source, *QUICK))
    assert sentence == (
        f"{source}: {target} exists and is no unchanged result of this command: use --overwrite to "
        "replace it."
    )
    assert target.read_bytes() == b"somebody's own"
    assert detail(source, *QUICK, "--overwrite")[0] == 0
    with PIL.Image.open(target) as image:
        assert image.size == (48, 32)


def test_what_can_fail_is_told_before_a_model_is_loaded(detail: Detail, tmp_path: Path) -> None:
    good, empty = picture(tmp_path / "a.png"), tmp_path / "empty"
    empty.mkdir()
    blocked = tmp_path / "file"
    blocked.write_text("")
    missing = tmp_path / "missing.jpg"
    assert refused(detail(missing)) == f"{missing}: No such file or directory"
    assert refused(detail(empty)).startswith(f"{empty} has no pictures (.avif, ")
    assert refused(detail(tmp_path / "*.tif")) == f"No picture matches {tmp_path}/*.tif"
    sentence = refused(detail(good, "-o", blocked / "b.png"))
    assert sentence == f"Nothing can be written to {blocked}: Not a directory"
    assert refused(detail(good, "-o", "/proc/b.png")).startswith("Nothing can be written to /proc")
    assert refused(detail(good, "--steps", blocked)).startswith("Nothing can be written to")
    assert refused(detail(blocked)) == f"{blocked}: the file is empty"
    other = picture(tmp_path / "other.png")
    assert refused(detail(good, other, "-o", "-"), 2).startswith(
        "Standard output takes one picture"
    )
    assert refused(detail(good, "--device", "mps")).startswith("The device mps")
    assert refused(detail(good, "--json", "-o", "-"), 2).startswith(
        "--json and a picture both want"
    )
    for address in ("ftp://a", "http://[", "http://a:99999", "a.example"):
        sentence = refused(detail(good, "--url", address), 2)
        assert sentence == f"--url: The server's address should be an http(s) URL, got {address!r}."
    sentence = refused(detail(good, "--url", "http://a", "--key", "ä"), 2)
    assert sentence == "--key: The API key should consist of printable ASCII characters."
    for name in (f"{'a' * 252}.jpg", "a" * 300, f"{'a' * 300}/b.jpg"):
        assert refused(detail(tmp_path / name)).endswith("File name too long")
    assert refused(detail(good, "-o", tmp_path / f"{'a' * 252}.jpg")).endswith("File name too long")
    sentence = refused(detail(good, "-o", tmp_path / "a" / ("a" * 300)), 2)
    assert sentence.endswith("for a folder.")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    assert refused(detail(tmp_path / "circle.jpg")).endswith("symbolic links")


def test_names_that_no_terminal_should_see(detail: Detail, tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"a\xff\x1b[31m.jpg")
    strange.write_bytes(b"no picture")
    for options in ((), ("--json",)):
        code, out, err = detail(strange, *options)
        assert code == 1
        assert "\x1b" not in out + err
        assert "the file is not a PNG" in out + err
    assert "\\x1b[31m" in refused(detail(tmp_path / "b\x1b[31m.jpg"))


@pytest.mark.slow
def test_what_is_missing_stops_nothing_else(detail: Detail, tmp_path: Path) -> None:
    good, missing, empty = picture(tmp_path / "a.png"), tmp_path / "none.jpg", tmp_path / "empty"
    empty.mkdir()
    code, out, err = detail(good, missing, empty, tmp_path / "*.tif", *QUICK)
    assert code == 1
    assert f"face-detailer: {missing}: No such file or directory" in err
    assert f"face-detailer: {empty} has no pictures" in err
    assert f"face-detailer: No picture matches {tmp_path}/*.tif" in err
    assert f"{good} → {tmp_path / 'a-detailed.png'}" in out
    table = dict(re.findall(r"^ +(\S.*?\S) {2,}(\S+) *$", out, re.MULTILINE))
    assert (table["done"], table["failed"]) == ("1", "3")
    # A name that is taken is one picture's fault, too.
    other = picture(tmp_path / "b.png")
    (tmp_path / "b-detailed.png").write_bytes(b"somebody's own")
    code, out, err = detail(other, good, missing, *QUICK, "--json")
    told = {Path(line["source"]).name: line for line in map(json.loads, out.splitlines())}
    assert {name: line["status"] for name, line in told.items()} == {
        "a.png": "done",
        "b.png": "failed",
        "none.jpg": "failed",
    }
    assert told["none.jpg"]["error"] == f"{missing}: No such file or directory"


@pytest.mark.slow
def test_a_name_that_ends_like_a_folder_becomes_one(detail: Detail, tmp_path: Path) -> None:
    good, other = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    assert detail(good, "-o", f"{tmp_path}/new/deep.d/", *QUICK)[0] == 0
    assert files(tmp_path / "new") == ["deep.d/a.png"]
    assert detail(good, other, "-o", tmp_path / "several", *QUICK)[0] == 0
    assert files(tmp_path / "several") == ["a.png", "b.png"]
    # It is told before a model is loaded where it cannot be made.
    for name in ("/proc/new/", f"{good}/"):
        assert refused(detail(good, "-o", name)).startswith("Nothing can be written to ")
