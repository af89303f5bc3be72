"""`face-detailer detail`: pictures from files to files, on this machine or by a server."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.api.contract import FIELDS
from server.cli.options import Device, Key, Profile, Texts, Url, takes_fields
from server.errors import UsageError

if TYPE_CHECKING:
    from server.cli.batch import Rules
    from server.cli.outputs import Task
    from server.cli.results import Worker
    from server.cli.sources import Missing
    from server.settings import Settings

# The pictures are arguments, and the result is a file.
_OPTIONS = tuple(field for field in FIELDS if field.name not in ("image", "base64"))
# What the API has no default for.
PRESETS: Final = {"prompt": "detailed face", "denoise": "0.4"}

EXAMPLES = """Examples:

\b
  face-detailer detail photo.jpg                      writes photo-detailed.jpg
  face-detailer detail photo.jpg -o better.png --denoise 0.3
  face-detailer detail holidays -o better             a folder, and all below it
  face-detailer detail "scans/**/*.tif" --upscale 1   a glob
  cat a.jpg | face-detailer detail - > b.jpg          standard input and output
  face-detailer detail photo.jpg --prompt "a man [SEP] [SKIP] [SEP] a girl"
  face-detailer detail holidays --url https://faces.example --key SG_...

A run that was stopped goes on where it was: in folders, finished pictures are skipped if picture
and options are the same. Exit codes: 0 everything is done, 1 something is not (standard error says
why), 2 an option has a value that it cannot have, 130 stopped by Ctrl-C."""


@takes_fields(
    _OPTIONS, {"image_format": "by the ending of OUT or, without one, of IN; else jpeg"}, PRESETS
)
def detail(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN", help="Pictures, folders of them, globs, or - to read one."),
    ],
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file, whose ending says its format; a folder, which is made if its name ends "
            "in /; or - for standard output (default: beside IN, as IN-detailed.jpg).",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            show_default=False,
            help="Pictures at a time (default: 1 on a CPU, 2 on a GPU, 4 with --url).",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            show_default=False,
            help="Skip pictures whose results are there already, made of the same picture with the "
            "same options (default: for folders and globs without --overwrite).",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace whatever lies where results go.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object a line in place of sentences.")
    ] = False,
    url: Url = None,
    key: Key = None,
    profile: Profile = None,
    device: Device = None,
    fields: Texts,
    steps: Annotated[
        Path | None,
        typer.Option(help="Put a picture of each step into this folder.", metavar="DIR"),
    ] = None,
) -> None:
    """Detail the faces of pictures, on this machine or, with --url, by a server."""
    from rich.console import Console

    from server import logs
    from server.cli.batch import Batch, Rules
    from server.cli.claims import Claims
    from server.cli.records import Records
    from server.cli.reporting import Reporter
    from server.cli.sources import STANDARD, is_many
    from server.cli.variables import warn_of_unknown_variables
    from server.settings import read_settings

    warn_of_unknown_variables()
    settings = read_settings(profile=profile, devices=device)
    logs.configure("warning")
    if resume is None:
        resume = is_many(inputs) and not overwrite
    rules = Rules(resume=resume, overwrite=overwrite, jobs=jobs)
    tasks, missing, asked = _plan(inputs, output, fields, settings, rules, remote=url is not None)
    to_stdout = any(STANDARD in task.outputs for task in tasks)
    if to_stdout and as_json:
        raise UsageError("--json and a picture both want standard output: give --output.")
    if steps is not None:
        _check_steps(steps, tasks, url)
    console = Console(stderr=True)
    to = sys.stderr if to_stdout else sys.stdout
    reporter = Reporter(console, as_json=as_json, to=to)
    for item in missing:
        reporter.miss(item)
    if not tasks:
        reporter.close()
        raise typer.Exit(1)
    worker = _worker(url, key, fields, settings, steps)
    batch = Batch(worker, Records(settings), Claims(settings), asked, rules, reporter)
    raise typer.Exit(batch.run(tasks, console))


def _plan(
    inputs: Sequence[Path],
    output: str | None,
    fields: Texts,
    settings: "Settings",
    rules: "Rules",
    *,
    remote: bool,
) -> "tuple[list[Task], tuple[Missing, ...], dict[str, object]]":
    """The pictures and where their results go, what is missing, and the values of all fields."""
    from server.api.parameters import parse
    from server.cli.models import api_errors
    from server.cli.outputs import check, check_folders, means_folder, plan
    from server.cli.sources import expand, is_folder, is_many

    if remote:
        # A server's own limits are its own: it will tell.
        settings = settings.model_copy(update={"max_faces": 1000, "max_request_steps": 10**7})
    with api_errors():
        # The API wants a picture too; here each input is read when its turn comes.
        parameters = parse({**fields, "image": b"read later"}, settings)
    target = None if output is None else Path(output)
    sources, missing = expand(inputs, leave_out=target if target and is_folder(target) else None)
    if not sources:
        return [], missing, dict(parameters.asked)
    by_ending = not fields["image_format"]
    many = len(inputs) > 1 or is_many(inputs)
    to_folder = output is not None and means_folder(output, many=many)
    tasks = plan(
        sources,
        target,
        parameters.options,
        missing=len(missing),
        by_ending=by_ending,
        to_folder=to_folder,
    )
    check(tasks, overwrite=rules.overwrite)
    check_folders([file for task in tasks for file in task.outputs])
    return tasks, missing, dict(parameters.asked)


def _check_steps(steps: Path, tasks: "Sequence[Task]", url: str | None) -> None:
    from server.cli.outputs import check_folders

    if len(tasks) > 1:
        raise UsageError("--steps takes one picture.")
    if url is not None:
        raise UsageError("--steps shows what this machine does: it does not go with --url.")
    check_folders([steps / "1"])


def _worker(
    url: str | None, key: str | None, fields: Texts, settings: "Settings", steps: Path | None
) -> "Worker":
    if url is None:
        from server.cli.local import Local

        return Local(settings, steps)
    from server.cli.asked import Asked
    from server.cli.remote import Remote

    return Remote(url, key, fields, Asked(settings))
