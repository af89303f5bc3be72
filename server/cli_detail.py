"""`face-detailer detail`: pictures from files to files, without a server."""

import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from pipeline.detailer import FaceDetailer
from pipeline.errors import InvalidImage, Stopped
from pipeline.images import encode
from pipeline.request import DetailResult
from pipeline.types import Image
from pipeline.walkthrough import walk_through
from server import contract, logs
from server.cli_models import FORMATS, load_detailer, read_picture, write_file
from server.errors import BadParameter, OperatorError
from server.jobs import detail_request
from server.parameters import parse
from server.settings import Settings
from server.types import DetailOptions, ImageFormat

_ENDINGS: Mapping[ImageFormat, str] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
_INTERRUPTED = 130
_STEPS_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Task:
    """One picture. `outputs`: a file per sample."""

    source: Path
    outputs: tuple[Path, ...]
    options: DetailOptions


def run(
    inputs: Sequence[Path],
    output: Path,
    fields: Mapping[str, str | None],
    settings: Settings,
    *,
    overwrite: bool,
    steps: Path | None,
) -> int:
    """Detail every picture; the exit code. `steps`: a folder for pictures of the only one's walk.

    A picture that cannot be read or written is told on standard error, and the others go on.

    Raises:
        OperatorError: nothing can be done at all: wrong options, wrong paths, no weights.
    """
    if steps is not None and len(inputs) > 1:
        raise OperatorError("--steps takes one picture.")
    tasks = _plan(inputs, output, _options(fields, settings), by_ending=not fields["image_format"])
    _check_outputs(tasks, overwrite=overwrite)
    console = Console(stderr=True)
    logs.configure("warning")
    detailer = load_detailer(settings, console)
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    failed = False
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        for task in tasks:
            try:
                print(_detail(task, settings, detailer, progress, stop, steps), flush=True)
            except Stopped:
                return _INTERRUPTED
            except InvalidImage as error:
                failed = _tell(f"{task.source}: {error}")
            except OSError as error:
                failed = _tell(f"{error.filename}: {error.strerror}")
    return int(failed)


def _tell(sentence: str) -> bool:
    print(f"face-detailer: {sentence}", file=sys.stderr)
    return True


def _options(fields: Mapping[str, str | None], settings: Settings) -> DetailOptions:
    """The API's own checks. They want a picture named, which is another's matter here."""
    try:
        return parse({**fields, "image": b"later"}, settings).options
    except BadParameter as error:
        raise OperatorError(str(error)) from error


def _plan(
    inputs: Sequence[Path], output: Path, options: DetailOptions, *, by_ending: bool
) -> list[Task]:
    ending = output.suffix.lower()
    if output.is_dir() or (len(inputs) > 1 and ending not in FORMATS and not output.exists()):
        tasks = []
        for source in inputs:
            kind = FORMATS.get(source.suffix.lower()) if by_ending else None
            its = replace(options, image_format=kind or options.image_format)
            target = output / f"{source.stem}{_ENDINGS[its.image_format]}"
            tasks.append(Task(source, _samples(target, its.samples), its))
        return tasks
    if len(inputs) > 1:
        raise OperatorError(f"{output} is no folder: several pictures need one.")
    if ending not in FORMATS:
        raise OperatorError(f"{output} should end in .jpg, .jpeg, .png or .webp, or be a folder.")
    if not by_ending and options.image_format != FORMATS[ending]:
        raise OperatorError(f"{output} does not end like a {options.image_format} file.")
    its = replace(options, image_format=FORMATS[ending])
    return [Task(inputs[0], _samples(output, its.samples), its)]


def _samples(target: Path, samples: int) -> tuple[Path, ...]:
    if samples == 1:
        return (target,)
    return tuple(target.with_stem(f"{target.stem}-{i}") for i in range(1, samples + 1))


def _check_outputs(tasks: Sequence[Task], *, overwrite: bool) -> None:
    sources = {task.source.resolve() for task in tasks}
    seen: set[Path] = set()
    for target in (output.resolve() for task in tasks for output in task.outputs):
        if target in seen:
            raise OperatorError(f"Two results would be written to {target}.")
        if target in sources and not overwrite:
            raise OperatorError(f"{target} is an input: --overwrite allows to replace it.")
        seen.add(target)


def _detail(
    task: Task,
    settings: Settings,
    detailer: FaceDetailer,
    progress: Progress,
    stop: threading.Event,
    steps: Path | None,
) -> str:
    """Do one picture; the line to print."""
    picture = read_picture(task.source, settings)
    options = task.options
    longer_side_px = max(picture.image.width_px, picture.image.height_px)
    upscale = contract.largest_upscale(options.upscale, longer_side_px, settings.max_side_px)
    request = detail_request(picture, replace(options, upscale=upscale))
    bar = progress.add_task(task.source.name, total=None)

    def on_progress(done: int, total: int) -> None:
        progress.update(bar, completed=done, total=total)

    if steps is None:
        result = detailer(request, on_progress, stop.is_set)
    else:
        result, shown = walk_through(detailer, request, on_progress, stop.is_set)
        _write_steps(steps, shown)
    progress.remove_task(bar)
    _write(task, result)
    names = ", ".join(str(path) for path in task.outputs)
    faces = "1 face" if len(result.faces) == 1 else f"{len(result.faces)} faces"
    kept = f", {result.kept} unchanged" if result.kept else ""
    seconds = sum(result.seconds.values())
    return f"{task.source} → {names}: {faces}{kept}, {seconds:.1f} s, seed {options.seed}"


def _write(task: Task, result: DetailResult) -> None:
    options = task.options
    for image, target in zip(result.images, task.outputs, strict=True):
        data = encode(image, result.alpha, options.image_format, options.image_quality)
        write_file(target, data)


def _write_steps(folder: Path, pictures: Mapping[str, Image]) -> None:
    for number, (name, image) in enumerate(pictures.items(), start=1):
        write_file(folder / f"{number}-{name}.jpg", encode(image, None, "jpeg", _STEPS_QUALITY))
