"""`face-detailer weights …`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.errors import OperatorError

if TYPE_CHECKING:
    from weights.sources import Download

app = typer.Typer(help="The files of a profile's models.", no_args_is_help=True)

ProfileName = Annotated[str, typer.Option("--profile", help="Which profile.")]
Extras = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="EXTRA", help="Also this extra; several times for several."),
]


@app.command("list")
def list_files(profile: ProfileName = "sdxl") -> None:
    """The files of a profile: size, licence, source, and whether they are there."""
    from server.cli_tables import new_table, print_table
    from weights.manifest import EMBEDDED, files

    rows: list[tuple[str, int | None, str, str, str]]
    with _sentences():
        folder = _folder(profile)
        if profile in EMBEDDED:
            rows = [(f.path, f.bytes, f.licence, "embedded", "") for f in files(profile)]
        else:
            rows = [
                (f.path, f.size_bytes, f.licence, str(f.source), f.extra or "")
                for f in _downloads(profile)
            ]
    table = new_table("file", "bytes", "licence", "from", "extra", "there")
    for path, size, licence, source, extra in rows:
        there = "yes" if (folder / path).is_file() else "no"
        table.add_row(path, str(size or "small"), licence, source, extra, there)
    print_table(table)
    total = sum(size or 0 for _, size, _, _, extra in rows if not extra)
    typer.echo(f"{total / 1e9:.2f} GB without extras, in {folder}")


@app.command("verify")
def verify_files(profile: ProfileName = "sdxl") -> None:
    """Read every file of a profile and compare its size and SHA-256 with what they should be."""
    from weights.manifest import EMBEDDED, PACKAGE_DIR, files, verify
    from weights.records import verify_fetched

    with _sentences():
        folder = _folder(profile)
        if profile in EMBEDDED:
            problems = verify(files(profile), folder)
        else:
            problems = verify_fetched(_downloads(profile), folder, PACKAGE_DIR / profile)
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        remedy = "" if profile in EMBEDDED else f" `weights pull --profile {profile}` mends that."
        raise OperatorError(f"{len(problems)} files of {profile} are not right.{remedy}")
    typer.echo(f"All files of {profile} are right.")


@app.command("pull")
def pull_files(profile: ProfileName = "sdxl", with_: Extras = None) -> None:
    """Download what a profile lacks; go on where an earlier pull stopped."""
    from server.cli_progress import reporting
    from server.settings import read_settings
    from weights.download import Patience
    from weights.manifest import EMBEDDED, PACKAGE_DIR
    from weights.pull import pull
    from weights.sources import Mirrors, chosen

    with _sentences():
        folder = _folder(profile)
        if profile in EMBEDDED:
            typer.echo(f"The profile {profile} is embedded: there is nothing to pull.")
            return
        settings = read_settings()
        settings.make_data_dir()
        mirrors = Mirrors(settings.hub_endpoint, settings.url_mirrors or ())
        files = chosen(_downloads(profile), with_ or [])
        with reporting() as on_event:
            pull(files, folder, PACKAGE_DIR / profile, mirrors, Patience(), on_event)
    typer.echo(f"The profile {profile} is complete, in {folder}")


@app.command("import")
def import_files(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are.")],
    profile: ProfileName = "sdxl",
    with_: Extras = None,
) -> None:
    """Take what a profile lacks from a folder, without network."""
    from server.cli_progress import reporting
    from server.settings import read_settings
    from weights.manifest import EMBEDDED, PACKAGE_DIR
    from weights.pull import import_from
    from weights.sources import chosen

    if not source.is_dir():
        raise OperatorError(f"{source} is no folder.")
    with _sentences():
        folder = _folder(profile)
        if profile in EMBEDDED:
            typer.echo(f"The profile {profile} is embedded: there is nothing to import.")
            return
        read_settings().make_data_dir()
        files = chosen(_downloads(profile), with_ or [])
        with reporting() as on_event:
            import_from(source.absolute(), files, folder, PACKAGE_DIR / profile, on_event)
    typer.echo(f"The profile {profile} is complete, in {folder}")


@app.command("convert")
def convert_file(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .pt or .pth file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors file.")],
) -> None:
    """Take the weights, and nothing else, out of a checkpoint that you trust."""
    from weights.convert import convert

    if target.suffix != ".safetensors" or target.exists():
        raise OperatorError(f"{target} should end in .safetensors and not exist yet.")
    try:
        with _sentences():
            convert(source, target)
    except OSError as error:
        raise OperatorError(f"{source}: {error.strerror}") from error
    typer.echo(f"The weights of {source} are in {target}")


def _folder(profile: str) -> Path:
    from server.settings import read_settings
    from weights.manifest import profile_folder

    return profile_folder(profile, read_settings().data_dir)


def _downloads(profile: str) -> "tuple[Download, ...]":
    from weights.sources import downloads

    return downloads(profile)


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    from weights.errors import PullError
    from weights.manifest import ProfileError

    try:
        yield
    except (ProfileError, PullError) as error:
        raise OperatorError(str(error)) from error
