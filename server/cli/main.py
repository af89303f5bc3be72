"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from evaluation.errors import BadPlan, EvaluationError
from server.cli import bench, detail, detect, doctor, keys, load, serve, webhooks, weights
from server.cli import credits as cli_credits
from server.cli import eval as cli_eval
from server.cli.texts import printable
from server.errors import OperatorError, StoppedByUser, UsageError

_EXAMPLES = """Examples:

\b
  face-detailer detail photo.jpg         detail its faces, into photo-detailed.jpg
  face-detailer detect photo.jpg         show which faces count, and why others do not
  face-detailer serve --profile tiny     serve the API, and a page to try it on
  face-detailer keys create --unlimited  make a key for the API
  face-detailer weights pull             download the weights of the profile sdxl
  face-detailer doctor                   see what is missing

COMMAND --help shows the options of each. Everything else is set by FACE_DETAILER_... variables:
docs/settings.md. Exit codes: 0 done, 1 not (standard error says why), 2 an option, argument or
variable has a value that it cannot have, 130 stopped by Ctrl-C."""

app = typer.Typer(
    name="face-detailer",
    help="Self-hosted face detailing: Segmind's POST /v1/face-detailer, served from your own GPU.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    # Rich's boxes cut long options and choices at 80 columns; plain text wraps them.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
)
app.add_typer(weights.app, name="weights")
app.add_typer(cli_eval.app, name="eval")
app.add_typer(keys.app, name="keys")
app.add_typer(cli_credits.app, name="credits")
app.add_typer(webhooks.app, name="webhooks")
app.command(epilog=serve.EXAMPLES, short_help="Serve the HTTP API, and a page.")(serve.serve)
app.command(epilog=detail.EXAMPLES, short_help="Detail the faces of pictures.")(detail.detail)
app.command(epilog=detect.EXAMPLES, short_help="Show which faces count, and why.")(detect.detect)
app.command(short_help="Show what a device does with a profile.")(bench.bench)
app.command(short_help="Show what a running server answers under load.")(load.load)
app.command(short_help="See what is missing, and what helps.")(doctor.doctor)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"face-detailer {version('face-detailer')}")
        raise typer.Exit


@app.callback()
def group(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Self-hosted face detailing: Segmind's POST /v1/face-detailer, served from your own GPU."""


def main() -> None:
    """The console script. Expected errors are one sentence on standard error; what their exit codes
    mean is in docs/command-line.md.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a letter gets its number, never a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="face-detailer")
    except SystemExit as ending:
        if ending.code == StoppedByUser.exit_code:
            print("face-detailer: Stopped by Ctrl-C.", file=sys.stderr)
        raise
    except EvaluationError as error:
        _refuse(str(error), UsageError.exit_code if isinstance(error, BadPlan) else 1)
    except OperatorError as error:
        _refuse(str(error), error.exit_code)
    except BrokenPipeError:
        # Who reads standard output wants no more, such as `head`; nor does the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _refuse(text: str, exit_code: int) -> NoReturn:
    print("face-detailer:", "\n".join(map(printable, text.splitlines())), file=sys.stderr)
    sys.exit(exit_code)
