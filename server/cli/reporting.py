"""What `face-detailer detail` tells of every picture: sentences for people, JSON for programs."""

import json
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Literal, TextIO

from rich.console import Console
from rich.text import Text

from server.cli.interrupting import finished
from server.cli.tables import print_table
from server.cli.texts import printable

if TYPE_CHECKING:
    from server.cli.outputs import Task
    from server.cli.results import Done
    from server.cli.sources import Missing

_State = Literal["done", "skipped", "failed"]


class Reporter:
    """Tells as it happens, from any thread, and sums up in the end."""

    def __init__(self, console: Console, *, as_json: bool, to: TextIO) -> None:
        """`console`: where bars are shown. `as_json`: an object a line in place of sentences. `to`:
        where what succeeds is told.
        """
        self._console = console
        self._as_json = as_json
        self._to = to
        self._lock = threading.Lock()
        self._count: Counter[_State] = Counter()
        self._faces = 0
        self._started_s = time.monotonic()

    @property
    def failed(self) -> int:
        """How many pictures could not be done."""
        return self._count["failed"]

    @property
    def told(self) -> int:
        """Of how many pictures it is known what became of them."""
        return self._count.total()

    def succeed(self, task: "Task", done: "Done") -> None:
        """A picture is done, and its results are written."""
        with self._lock:
            self._faces += done.detailed
            self._tell("done", task, _line(task, done), **_figures(done))

    def skip(self, task: "Task") -> None:
        """It was finished by an earlier run."""
        with self._lock:
            self._tell("skipped", task, f"{task.source.shown}: finished before, skipped")

    def fail(self, task: "Task", why: str) -> None:
        """It cannot be done."""
        with self._lock:
            self._tell("failed", task, f"{task.source.shown}: {printable(why)}", error=why)

    def miss(self, missing: "Missing") -> None:
        """Something that was given is no picture."""
        with self._lock:
            self._count["failed"] += 1
            if self._as_json:
                report = {"status": "failed", "source": str(missing.path), "outputs": []}
                self._print(json.dumps({**report, "error": missing.why}))
            else:
                print("face-detailer:", printable(missing.why), file=sys.stderr, flush=True)

    def warn(self, sentence: str) -> None:
        """Something else is amiss."""
        with self._lock:
            print("face-detailer:", printable(sentence), file=sys.stderr, flush=True)

    def stopped(self, pictures: int, *, resume: bool) -> str:
        """What is said after Ctrl-C, where so many `pictures` were asked for."""
        done = self._count["done"] + self._count["skipped"]
        command = "The same command" if resume else "The same command with --resume"
        return finished(done, pictures, f"{command} does the others.")

    def close(self) -> None:
        """Sum up, if there was more than one picture."""
        if self._as_json or self._count.total() < 2:
            return
        rows = [(state, str(self._count[state])) for state in ("done", "skipped", "failed")]
        rows = [row for row in rows if row[1] != "0"]
        # Not a sum: several pictures are done at a time.
        seconds = time.monotonic() - self._started_s
        totals = [("faces detailed", str(self._faces)), ("seconds, start to end", f"{seconds:.1f}")]
        print_table(("pictures", ""), rows + totals * bool(self._count["done"]), self._to)

    def _tell(self, state: _State, task: "Task", sentence: str, **figures: object) -> None:
        self._count[state] += 1
        if self._as_json:
            outputs = [str(output) for output in task.outputs]
            report = {"status": state, "source": str(task.source.path), "outputs": outputs}
            self._print(json.dumps(report | figures))
        elif state == "failed":
            print("face-detailer:", sentence, file=sys.stderr, flush=True)
        else:
            self._print(sentence)

    def _print(self, line: str) -> None:
        if self._to.isatty() and self._console.is_terminal:
            # One terminal for both: the bars make way for the line.
            self._console.print(Text(line), soft_wrap=True)
        else:
            print(line, file=self._to, flush=True)


def faces(count: int) -> str:
    """As in `1 face`, `2 faces`."""
    return "1 face" if count == 1 else f"{count} faces"


def _figures(done: "Done") -> dict[str, object]:
    figures: dict[str, object] = {
        "faces": {
            "found": done.found,
            "detailed": done.detailed,
            "left_out": dict(done.left_out),
            "unchanged": done.unchanged,
        },
        "prompt_unread": list(done.unread),
        "seconds": round(done.seconds, 3),
        "seed": done.seed,
    }
    if done.identity:
        figures["identity"] = [judged.figures for judged in done.identity]
    return figures if done.cost is None else {**figures, "cost": done.cost}


def _line(task: "Task", done: "Done") -> str:
    names = ", ".join(printable(str(path)) for path in task.outputs)
    left_out = ", ".join(f"{reason}={count}" for reason, count in done.left_out.items())
    parts = [
        faces(done.detailed),
        f"left out: {left_out}" if left_out else "",
        f"{done.unchanged} unchanged" if done.unchanged else "",
        f"identity: {', '.join(judged.text for judged in done.identity)}" * bool(done.identity),
        *(f"not read of the prompt: {printable(text)}" for text in done.unread),
        f"{done.seconds:.1f} s",
        f"seed {done.seed}",
        "" if done.cost is None else f"{done.cost:g} credits",
    ]
    return f"{task.source.shown} → {names}: {', '.join(part for part in parts if part)}"
