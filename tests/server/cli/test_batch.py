"""Batches on a worker of the test's own: what becomes of files and of other pictures meanwhile."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import PIL.Image
import pytest
from other_runs import claimed_by_another
from rich.console import Console

from server.api.parameters import parse
from server.cli.batch import Batch, Rules
from server.cli.claims import Claims
from server.cli.outputs import Task
from server.cli.records import Records
from server.cli.reporting import Reporter
from server.cli.results import Done, Interrupted
from server.cli.sources import Source
from server.errors import OperatorError, StoppedByUser
from server.settings import Settings

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

PATIENCE_S = 60
During = Callable[[Path, threading.Event], object]


class Worker:
    """Its result is always the same. `during`: called at each picture's work, with the result's
    file and the event that stops the work.
    """

    kind: Mapping[str, object] = {}
    jobs = 2

    def __init__(self, during: During = lambda _output, _stop: None) -> None:
        self._during = during
        self.begun: list[str] = []

    def check(self, task: Task, data: bytes) -> None: ...

    def start(self) -> None: ...

    def detail(self, task: Task, *given: object) -> Done:
        stop = given[-1]
        assert isinstance(stop, threading.Event)
        self.begun.append(task.outputs[0].name)
        self._during(task.outputs[0], stop)
        return Done((b"result",), 0, 0, {}, 0, (), 0.0, 0)

    def kept(self, task: Task, data: bytes) -> None: ...


def run(worker: Worker, *outputs: Path, overwrite: bool = False, jobs: int | None = None) -> int:
    """Make these of pictures beside them; the exit code."""
    settings, console = Settings(), Console(stderr=True)
    options = parse({"image": b"later", "prompt": "", "denoise": "0"}, settings).options
    tasks = []
    for output in outputs:
        picture = output.with_name(f"{output.stem}-in.png")
        PIL.Image.new("RGB", (48, 32)).save(picture)
        tasks.append(Task(Source(picture, Path(picture.name)), (output,), options))
    rules = Rules(resume=True, overwrite=overwrite, jobs=jobs)
    reporter = Reporter(console, as_json=False, to=sys.stdout)
    batch = Batch(worker, Records(settings), Claims(settings), {}, rules, reporter)
    return batch.run(tasks, console)


def interrupt(_output: Path, stop: threading.Event) -> None:
    """Ctrl-C, of which the work takes no notice."""
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.wait(PATIENCE_S)


# --- what somebody else writes ---


def test_a_file_that_somebody_writes_during_the_work_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "b.png"
    worker = Worker(lambda output, _stop: output.write_bytes(b"somebody's own"))
    assert run(worker, output) == 1
    assert (
        "b.png was written by somebody else meanwhile: use --overwrite to replace it."
        in capfd.readouterr().err
    )
    assert output.read_bytes() == b"somebody's own"
    output.unlink()
    assert run(worker, output, overwrite=True) == 0
    # Another run of the same command, before it has recorded its result.
    output.unlink()
    (tmp_path / "data" / "finished").rename(tmp_path / "elsewhere")
    assert run(Worker(lambda output, _stop: output.write_bytes(b"result")), output) == 0
    assert output.read_bytes() == b"result"


def test_no_work_is_done_for_a_file_that_somebody_wrote_before_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    worker = Worker(lambda _output, _stop: second.write_bytes(b"somebody's own"))
    assert run(worker, first, second, jobs=1) == 1
    assert worker.begun == ["a.png"]
    assert "b.png was written by somebody else meanwhile" in capfd.readouterr().err
    assert second.read_bytes() == b"somebody's own"


def test_a_folder_that_is_reached_by_a_link_has_the_same_results(tmp_path: Path) -> None:
    folder, link = tmp_path / "in", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    worker = Worker()
    assert run(worker, folder / "a.png") == run(worker, link / "a.png") == 0
    assert worker.begun == ["a.png"]


# --- runs that end early ---


def test_ctrl_c_that_leaves_nothing_undone_is_an_ordinary_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(Worker(interrupt), tmp_path / "a.png") == 0
    assert "a.png: 0 faces" in capfd.readouterr().out
    with pytest.raises(StoppedByUser, match="1 of 2 pictures are finished"):
        run(Worker(interrupt), tmp_path / "b.png", tmp_path / "c.png", jobs=1)


def test_ctrl_c_at_the_only_picture_is_said_to_have_stopped_it(tmp_path: Path) -> None:
    def give_up(output: Path, stop: threading.Event) -> None:
        interrupt(output, stop)
        raise Interrupted

    with pytest.raises(StoppedByUser, match="Stopped before the picture was finished"):
        run(Worker(give_up), tmp_path / "a.png")


def test_when_none_can_be_done_any_more_none_that_waits_is_begun(tmp_path: Path) -> None:
    """Both are another run's at first; when one of them is free, its work ends all."""

    def fail(*_: object) -> None:
        raise OperatorError("Not enough credits")

    first, second = tmp_path / "a.png", tmp_path / "b.png"
    worker = Worker(fail)
    data = tmp_path / "data"
    with claimed_by_another(data, first) as one, claimed_by_another(data, second) as other:
        threading.Timer(0.5, one.kill).start()
        late = threading.Timer(PATIENCE_S, other.kill)
        late.start()
        with pytest.raises(OperatorError, match="Not enough credits"):
            run(worker, first, second)
        assert (worker.begun, other.poll()) == (["a.png"], None)
        late.cancel()
        other.kill()
