"""Ctrl-C in commands other than `detail`, as processes: a sentence, and nothing is left running."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_on_cpu")]

EXAMPLE = Path(__file__).parents[3] / "examples" / "astronaut.png"
COMMAND = [sys.executable, "-u", "-c", "from server.cli.main import main; main()"]
PATIENCE_S = 170


def stopped(*words: object, at: str, after: str) -> tuple[int, str, list[str]]:
    """Interrupt a command as soon as a line with `after` stands in "stdout" or "stderr", whichever
    `at` is: its exit code and the rest of both outputs, the latter as lines.
    """
    with subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        while after not in (line := getattr(run, at).readline()):
            assert line, "it ended before"
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=PATIENCE_S)
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)
    assert "Traceback" not in err
    return run.returncode, out, err.splitlines()


def test_detect_says_how_many_pictures_are_finished(tmp_path: Path) -> None:
    folder, drawn = tmp_path / "in", tmp_path / "drawn"
    folder.mkdir()
    for number in range(4):
        shutil.copy(EXAMPLE, folder / f"{number}.png")
    code, out, err = stopped("detect", folder, "--overlay", f"{drawn}/", at="stdout", after="1.png")
    finished = len(list(drawn.iterdir()))
    assert (code, err[-1]) == (
        130,
        f"face-detailer: Stopped: {finished} of 4 pictures are finished. "
        "The same command begins again.",
    )
    assert 1 <= finished < 4
    # Of each that is finished, all is there.
    last = drawn / f"{finished - 1}.png"
    assert out.splitlines()[-1].startswith(f"Drawn into {last}: ")


def test_and_of_a_single_one_that_it_is_not() -> None:
    code, out, err = stopped("detect", EXAMPLE, at="stderr", after="Loading profile")
    sentence = "Stopped before the picture was finished: the same command begins it again."
    assert (code, out, err[-1]) == (130, "", f"face-detailer: {sentence}")


def test_eval_says_how_much_was_measured(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    portraits = tmp_path / "portraits"
    portraits.mkdir()
    with PIL.Image.open(EXAMPLE) as picture:
        picture.convert("RGB").crop((130, 20, 330, 220)).save(portraits / "a.png")
    code, out, err = stopped(
        *("eval", "detect", "--data", portraits, "--scenes", 500, "--json", written),
        at="stderr",
        after="loaded in",
    )
    assert (code, out) == (130, "")
    measured = r" before it was begun\.|: \d+ of 500 scenes were measured\."
    unwritten = re.escape(f" {written} was not written. The same command begins again.")
    assert re.fullmatch(rf"face-detailer: Stopped({measured}){unwritten}", err[-1]), err
    assert not written.exists()


def test_bench_keeps_the_figures_of_what_it_has_measured(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    code, _, err = stopped(
        *("bench", "--faces", "1,20", "--face-px", 64, "--size-px", 640, "--steps", 1),
        *("--upscale", 1, "--no-stock", "--json", written),
        at="stdout",
        after="Whole job",
    )
    assert (code, err[-1]) == (
        130,
        f"face-detailer: Stopped: 1 of 2 numbers of faces are measured, and {written} has their "
        "figures. The same command begins again.",
    )
    assert json.loads(written.read_text())["workload"]["faces"] == 1
    assert (tmp_path / "figures-chart.png").exists()
