"""`face-detailer weights …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from weights.manifest import WeightFile

app = typer.Typer(help="The files of a profile's models.", no_args_is_help=True)

ProfileName = Annotated[str, typer.Argument(metavar="[PROFILE]", help="Which profile.")]


@app.command("list")
def list_files(profile: ProfileName = "tiny") -> None:
    """The files of a profile: size, licence, what each is for."""
    from server.cli_tables import new_table, print_table

    files, folder = _files(profile)
    table = new_table("file", "for", "bytes", "licence", "there")
    for file in files:
        there = "yes" if (folder / file.path).is_file() else "no"
        table.add_row(file.path, file.role, str(file.bytes), file.licence, there)
    print_table(table)
    total = sum(file.bytes for file in files)
    typer.echo(f"{len(files)} files, {total / 2**20:.1f} MiB, in {folder}")


@app.command("verify")
def verify_files(profile: ProfileName = "tiny") -> None:
    """Compare every file of a profile with its manifest: size and SHA-256."""
    from weights.manifest import verify

    files, folder = _files(profile)
    problems = verify(files, folder)
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        raise OperatorError(f"{len(problems)} of {len(files)} files of {profile} are not right.")
    typer.echo(f"All {len(files)} files of {profile} are right.")


def _files(profile: str) -> "tuple[tuple[WeightFile, ...], Path]":
    from server.settings import read_settings
    from weights.manifest import ProfileError, files, profile_folder

    try:
        return files(profile), profile_folder(profile, read_settings().data_dir)
    except ProfileError as error:
        raise OperatorError(str(error)) from error
