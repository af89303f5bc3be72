"""`face-detailer weights …`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.interrupting import stoppable
from server.cli.texts import printable
from server.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from weights.sources import Download

_KEPT = "Stopped: what has come is kept, and the same command goes on."

app = typer.Typer(help="The files of a profile's models.", no_args_is_help=True)

ProfileName = Annotated[str, typer.Option("--profile", help="Which profile.")]
Extras = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="EXTRA", help="Also this extra; repeat for several."),
]


@app.command("list")
def list_files(profile: ProfileName = "sdxl") -> None:
    """List the files of a profile: size, licence, source, and whether they are there."""
    from server.cli.tables import print_table
    from weights.manifest import EMBEDDED, PACKAGE_DIR, files, home
    from weights.records import shipped

    rows: list[tuple[str, int, str, str, str]]
    with _sentences():
        folder = _folder(profile)
        if profile in EMBEDDED:
            rows = [(f.path, f.bytes, f.licence, "embedded", "") for f in files(profile)]
        else:
            rows = [
                (f.path, f.bytes, f.licence, str(f.source), f.extra or "")
                for f in _downloads(profile)
            ]
    _print_profile(profile, folder)
    cells = []
    for path, size, licence, source, extra in rows:
        there = "yes" if (folder / path).is_file() else "no"
        cells.append((path, str(size), licence, source, extra, there))
    print_table(("file", "bytes", "licence", "from", "extra", "there"), cells)
    needed = [size for _, size, _, _, extra in rows if not extra]
    typer.echo(f"{_count(len(needed))} that it needs, {sum(needed) / 1e9:.2f} GB together")
    if len(rows) > len(needed):
        typer.echo(f"{_count(len(rows) - len(needed))} of extras: `weights pull --with EXTRA`")
    if profile not in EMBEDDED:
        placed = len(shipped(PACKAGE_DIR / home(profile)))
        typer.echo(f"{_count(placed)} not listed: small, of this program; `pull` adds them")


@app.command("verify")
def verify_files(profile: ProfileName = "sdxl") -> None:
    """Read every file of a profile and compare its size and SHA-256 with what they should be."""
    from weights.manifest import EMBEDDED, PACKAGE_DIR, files, home, verify
    from weights.records import shipped, verify_fetched

    with _sentences():
        folder = _folder(profile)
        _print_profile(profile, folder)
        if profile in EMBEDDED:
            problems = verify(files(profile), folder)
        else:
            problems = verify_fetched(_downloads(profile), folder, PACKAGE_DIR / home(profile))
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        count = f"{_count(len(problems))} of {profile} wrong or missing"
        if profile in EMBEDDED:
            raise OperatorError(f"{count}: check the installation out anew.")
        placed = {path.as_posix() for path in shipped(PACKAGE_DIR / home(profile))}
        added = sum(problem.path in placed for problem in problems)
        kinds = f"{len(problems) - added} to download, {added} of this program"
        remedy = f"`face-detailer weights pull --profile {profile}` repairs them."
        raise OperatorError(f"{count}: {kinds}. {remedy}")
    typer.echo(f"All files of {profile} are right.")


@app.command("pull")
def pull_files(profile: ProfileName = "sdxl", with_: Extras = None) -> None:
    """Download the missing files of a profile; resume where an earlier pull stopped."""
    from server.cli.progress import reporting
    from server.settings import read_settings
    from weights.download import Patience
    from weights.manifest import EMBEDDED, PACKAGE_DIR, home
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
        with stoppable(lambda: _KEPT), reporting() as on_event:
            pull(files, folder, PACKAGE_DIR / home(profile), mirrors, Patience(), on_event)
    typer.echo(f"The profile {profile} is complete, in {printable(str(folder))}")


@app.command("import")
def import_files(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are.")],
    profile: ProfileName = "sdxl",
    with_: Extras = None,
) -> None:
    """Copy the missing files of a profile from a folder, without network."""
    from server.cli.progress import reporting
    from server.cli.sources import is_folder
    from server.settings import read_settings
    from weights.manifest import EMBEDDED, PACKAGE_DIR, home
    from weights.pull import import_from
    from weights.sources import chosen

    if not is_folder(source):
        raise OperatorError(f"{source} is not a folder.")
    with _sentences():
        folder = _folder(profile)
        if profile in EMBEDDED:
            typer.echo(f"The profile {profile} is embedded: there is nothing to import.")
            return
        read_settings().make_data_dir()
        files = chosen(_downloads(profile), with_ or [])
        with stoppable(lambda: _KEPT), reporting() as on_event:
            import_from(source.absolute(), files, folder, PACKAGE_DIR / home(profile), on_event)
    typer.echo(f"The profile {profile} is complete, in {printable(str(folder))}")


@app.command("convert")
def convert_file(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .pt or .pth file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors file.")],
) -> None:
    """Extract the weights, and nothing else, from a checkpoint that you trust."""
    from weights.convert import convert

    if target.suffix != ".safetensors":
        raise UsageError(f"{target} should end in .safetensors.")
    if target.exists():
        raise OperatorError(f"{target} exists: name a file that does not exist yet.")
    try:
        with _sentences():
            convert(source, target)
    except OSError as error:
        raise OperatorError(f"{source}: {error.strerror}") from error
    typer.echo(printable(f"The weights of {source} are in {target}"))


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _print_profile(profile: str, folder: Path) -> None:
    """Which one is meant, where its files belong, and which others there are."""
    from weights.manifest import profile_names

    others = ", ".join(name for name in profile_names() if name != profile)
    typer.echo(f"Profile {profile}, in {printable(str(folder))}")
    typer.echo(f"Others, by --profile: {others}")


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
    from weights.manifest import ProfileError, UnknownExtra

    try:
        yield
    except UnknownExtra as error:
        raise UsageError(f"--with: {error}") from error
    except ProfileError as error:
        raise UsageError(f"--profile: {error}") from error
    except PullError as error:
        raise OperatorError(str(error)) from error
