"""What `face-detailer doctor` looks at for a server: weights, port, data folder, keys, disk."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from server.cli.addresses import listen, url_to, why
from server.cli.findings import Finding, Machine
from server.engine.plan import (
    ProfileNotReady,
    UnusableGpu,
    choose_devices,
    choose_name,
    choose_profile,
)
from server.errors import OperatorError

_LEAST_FREE_BYTES: Final = 2**30
_GIB: Final = 2**30


def disk(machine: Machine) -> Iterator[Finding]:
    """Room in the data folder."""
    folder = _there(machine.settings.data_dir)
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIB:.1f} GiB free in {folder}"
    if free >= _LEAST_FREE_BYTES:
        yield Finding("disk", "ok", text)
    else:
        remedy = "make room, or set FACE_DETAILER_DATA_DIR to another disk"
        yield Finding("disk", "warning", text, remedy)


def weights(machine: Machine) -> Iterator[Finding]:
    """The profile's files: an embedded one's are read, of others it is seen that they are there."""
    from weights.manifest import EMBEDDED, files, verify

    try:
        name = choose_name(machine.settings.profile, choose_devices(machine.settings.devices))
        chosen = choose_profile(name, machine.settings.data_dir)
    except ProfileNotReady as error:
        yield Finding("weights", "failed", str(error), "run that, or use --profile tiny")
        return
    except UnusableGpu:
        return
    problems = verify(files(name), chosen.path) if name in EMBEDDED else ()
    for problem in problems:
        yield Finding("weights", "failed", str(problem), "check the installation out anew")
    if not problems:
        yield Finding("weights", "ok", f"{name}, in {chosen.path}")


def port(machine: Machine) -> Iterator[Finding]:
    """Whether `serve` could listen."""
    host, number = machine.settings.host, machine.settings.port
    try:
        listen(host, number).close()
        yield Finding("port", "ok", f"`serve` can listen on {host}:{number}")
    except OSError as error:
        if _is_ours(host, number):
            yield Finding("port", "ok", f"a face-detailer server runs on {host}:{number} already")
        else:
            remedy = "stop what is there, or serve with --port N"
            yield Finding(
                "port", "failed", f"`serve` cannot listen on {host}:{number}: {why(error)}", remedy
            )


def _is_ours(host: str, port: int) -> bool:
    import httpx

    try:
        reply = httpx.get(f"{url_to(host, port)}/health", trust_env=False, timeout=5)
        return bool(reply.json() == {"status": "ok"})
    except (httpx.HTTPError, ValueError):
        return False


def data_folder(machine: Machine) -> Iterator[Finding]:
    """Whether it can be written, and by its owner alone."""
    folder = machine.settings.data_dir
    try:
        with tempfile.TemporaryFile(dir=_there(folder)):
            pass
    except OSError as error:
        remedy = "set FACE_DETAILER_DATA_DIR to a folder of your own"
        yield Finding("data", "failed", f"{folder} cannot be written: {error.strerror}", remedy)
        return
    if not folder.exists():
        yield Finding(
            "data", "ok", f"{folder} is not there yet: the first command that needs it makes it"
        )
    elif folder.stat().st_mode & 0o077:
        remedy = f"chmod 700 {folder}"
        yield Finding("data", "warning", f"others can read {folder}", remedy)
    else:
        used = ", and a running server uses it" if _is_locked(folder / "serve.lock") else ""
        yield Finding("data", "ok", f"{folder} can be written{used}")


def _is_locked(file: Path) -> bool:
    try:
        with file.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def keys(machine: Machine) -> Iterator[Finding]:
    """How many there are; the database stays as it is."""
    from server.accounts.keys import KeyRing
    from server.accounts.looking import as_it_is

    try:
        with as_it_is(machine.settings) as database:
            infos = KeyRing(database).infos() if database else []
    except OperatorError as error:
        yield Finding("keys", "failed", str(error), "see FACE_DETAILER_DATABASE_URL")
        return
    valid = sum(not key.revoked for key in infos)
    if valid:
        yield Finding("keys", "ok", "1 valid key" if valid == 1 else f"{valid} valid keys")
    elif infos:
        remedy = "`face-detailer keys create --unlimited` makes one"
        yield Finding("keys", "warning", "all keys are revoked", remedy)
    else:
        yield Finding("keys", "ok", "none yet: the first `serve` makes one and prints it")


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))
