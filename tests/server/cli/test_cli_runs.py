"""Runs of `face-detailer detail` as processes: two at once, killed, stopped by Ctrl-C."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import PIL.Image
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_on_cpu")]

EXAMPLE = Path(__file__).parents[3] / "examples" / "astronaut-damaged.jpg"
COMMAND = [sys.executable, "-c", "from server.cli.main import main; main()"]
PICTURES = 3
PATIENCE_S = 170


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some small pictures of a face."""
    folder = tmp_path / "in"
    folder.mkdir()
    with PIL.Image.open(EXAMPLE) as picture:
        small = picture.resize((160, 160))
    for number in range(PICTURES):
        small.save(folder / f"{number}.jpg")
    return folder


def start(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "detail", str(folder), "--upscale", "1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def statuses(*texts: str) -> Counter[str]:
    return Counter(json.loads(line)["status"] for text in texts for line in text.splitlines())


def test_two_runs_at_once_do_every_picture_once(folder: Path) -> None:
    runs = [start(folder, "--json") for _ in range(2)]
    told = [run.communicate(timeout=PATIENCE_S)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert statuses(*told) == {"done": PICTURES, "skipped": PICTURES}
    assert len(list(folder.iterdir())) == 2 * PICTURES


def test_what_a_killed_run_was_at_is_done_by_another(folder: Path) -> None:
    first, second = start(folder, "--json"), start(folder, "--json")
    assert first.stdout is not None
    first.stdout.readline()
    first.kill()
    first.communicate(timeout=PATIENCE_S)
    told, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, err
    assert statuses(told).total() == PICTURES
    assert len(list(folder.glob("*-detailed.jpg"))) == PICTURES


def test_ctrl_c_says_what_was_finished_and_the_same_command_goes_on(folder: Path) -> None:
    run = start(folder)
    assert run.stdout is not None
    run.stdout.readline()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=PATIENCE_S)
    finished = len(list(folder.glob("*-detailed.jpg")))
    assert (run.returncode, err.splitlines()[-1]) == (
        130,
        f"face-detailer: Stopped: {finished} of {PICTURES} pictures are finished. "
        "The same command does the others.",
    )
    assert 1 <= finished < PICTURES
    again = start(folder, "--json")
    assert statuses(again.communicate(timeout=PATIENCE_S)[0])["skipped"] == finished
    assert again.returncode == 0


def test_ctrl_c_while_models_are_loaded_is_a_sentence_too(folder: Path) -> None:
    run = start(folder)
    assert run.stderr is not None
    run.stderr.readline()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130
    # Whether it was just loaded or not.
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        f"face-detailer: Stopped: 0 of {PICTURES} pictures are finished. "
        "The same command does the others."
    )
