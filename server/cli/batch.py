"""Many pictures, several at a time: each is done, skipped or failed, and none stops another."""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.errors import InvalidImage
from server.cli.bars import Bars
from server.cli.claims import Claims
from server.cli.outputs import Task
from server.cli.records import Records, State, work_of
from server.cli.reporting import Reporter
from server.cli.results import Done, Interrupted, PictureFailed, Worker
from server.cli.sources import STANDARD
from server.errors import BadParameter, StoppedByUser
from weights.files import write_file


@dataclass(frozen=True, slots=True)
class Rules:
    """`resume`: finished pictures are skipped. `overwrite`: whatever lies in a result's place is
    replaced. `jobs`: how many at a time; None: as many as the worker likes.
    """

    resume: bool
    overwrite: bool
    jobs: int | None


class Batch:
    """Some pictures and who does them."""

    def __init__(
        self,
        worker: Worker,
        records: Records,
        claims: Claims,
        asked: Mapping[str, object],
        rules: Rules,
        reporter: Reporter,
    ) -> None:
        """`asked`: the values of all fields, for `Records`. `claims` are closed with the run."""
        self._worker = worker
        self._records = records
        self._asked = asked
        self._rules = rules
        self._reporter = reporter
        self._stop = threading.Event()
        # Set without `_stop`, what runs is paid for, and goes on to its end.
        self._no_more = threading.Event()
        self._claims = claims
        # What another run was at when its turn came.
        self._others: list[Task] = []

    def run(self, tasks: Sequence[Task], console: Console) -> int:
        """Do every task that is not finished; the exit code.

        Raises:
            StoppedByUser: by Ctrl-C, before all were done; what was finished stays.
            OperatorError: none can be done.
        """
        told = self._reporter.told + len(tasks)
        try:
            with console.status(f"Looking at {len(tasks)} pictures" if len(tasks) > 1 else ""):
                waiting = [task for task in tasks if self._is_to_do(task)]
            if waiting:
                self._worker.start()
                with (
                    until_interrupted(self._stop, self._no_more),
                    Bars(console, len(waiting)) as bars,
                ):
                    self._do(waiting, bars)
        except KeyboardInterrupt:
            # Before any was begun.
            self._stop.set()
        finally:
            self._claims.close()
        self._reporter.close()
        if self._stop.is_set() and self._reporter.told < told:
            raise StoppedByUser(self._reporter.stopped(len(tasks), resume=self._rules.resume))
        return int(self._reporter.failed > 0)

    def _is_to_do(self, task: Task) -> bool:
        """Whether it is; one that cannot be done or is finished is reported."""
        try:
            data = task.source.read()
            self._worker.check(task, data)
            # Before its state is read: another run writes a result, and records it afterwards.
            is_free = self._claims.is_free(task.outputs[0])
            state = self._state(task, data)
        except (InvalidImage, BadParameter) as error:
            self._reporter.fail(task, str(error))
            return False
        except OSError as error:
            self._reporter.fail(task, f"{error.strerror}")
            return False
        if state == "same" and self._rules.resume:
            self._reporter.skip(task)
            return False
        if state == "foreign" and is_free and not self._rules.overwrite:
            names = ", ".join(str(output) for output in task.outputs)
            why = (
                "exists and is no unchanged result of this command: use --overwrite to replace it."
            )
            self._reporter.fail(task, f"{names} {why}")
            return False
        return True

    def _state(self, task: Task, data: bytes) -> State:
        files = [output for output in task.outputs if output != STANDARD]
        return self._records.state(files, self._work(task, data)) if files else "absent"

    def _do(self, tasks: Sequence[Task], bars: Bars) -> None:
        """All of them; last those that another run was at, in case that it did not finish them."""
        with ThreadPoolExecutor(self._rules.jobs or self._worker.jobs) as pool:
            for until in (None, self._no_more):
                futures = [pool.submit(self._claim, task, bars, until) for task in tasks]
                for future in as_completed(futures):
                    future.result()
                tasks = self._others

    def _claim(self, task: Task, bars: Bars, until: threading.Event | None) -> None:
        """Do it unless another run is at it; with `until`, wait for that run, or until it is set.
        Nothing is begun once none is to be begun any more.
        """
        if self._no_more.is_set():
            return
        if task.outputs[0] == STANDARD:
            self._one(task, bars, skips=False)
            return
        with self._claims.claimed(task.outputs[0], until) as is_ours:
            if self._no_more.is_set():
                return
            if is_ours:
                self._one(task, bars, skips=self._rules.resume or until is not None)
            elif until is None:
                self._others.append(task)

    def _one(self, task: Task, bars: Bars, *, skips: bool) -> None:
        """Do it, unless somebody has written there meanwhile; with `skips`, nor if it was another
        run of the same work.
        """
        try:
            data = task.source.read()
            with bars.picture(task.source.name) as on_stage:
                state = self._state(task, data)
                if skips and state == "same":
                    self._reporter.skip(task)
                    return
                if state == "foreign" and not self._rules.overwrite:
                    raise _taken(task.outputs)
                done = self._worker.detail(task, data, on_stage, self._stop)
            self._keep(task, done, self._work(task, data))
            self._worker.kept(task, data)
        except Interrupted:
            return
        except PictureFailed as error:
            self._reporter.fail(task, str(error))
        except OSError as error:
            self._reporter.fail(task, f"{error.strerror}")
        except BaseException:
            self._no_more.set()
            raise
        else:
            self._reporter.succeed(task, done)

    def _keep(self, task: Task, done: Done, work: str) -> None:
        for output, data in zip(task.outputs, done.files, strict=True):
            if output == STANDARD:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                continue
            try:
                if not self._may_replace(output, data, work):
                    raise _taken([output])
                write_file(output, data)
            except OSError as error:
                raise PictureFailed(f"{output}: {error.strerror}") from error
            try:
                self._records.add(output, data, work)
            except OSError as error:
                self._reporter.warn(f"What is finished cannot be remembered: {error}")

    def _may_replace(self, output: Path, data: bytes, work: str) -> bool:
        """Whether what lies there by now, such as another run's result, may make way."""
        if self._rules.overwrite or self._records.state([output], work) != "foreign":
            return True
        # The other run is about to record it.
        return output.is_file() and output.read_bytes() == data

    def _work(self, task: Task, data: bytes) -> str:
        image_format = task.options.encoding.image_format
        return work_of(data, {**self._asked, **self._worker.kind, "image_format": image_format})


def _taken(outputs: Sequence[Path]) -> PictureFailed:
    names = ", ".join(map(str, outputs))
    why = "was written by somebody else meanwhile: use --overwrite to replace it."
    return PictureFailed(f"{names} {why}")


@contextmanager
def until_interrupted(*stops: threading.Event) -> Iterator[None]:
    """In the block, Ctrl-C sets `stops`; pressed again, it ends the process."""

    def interrupt(*_: object) -> None:
        for stop in stops:
            stop.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
