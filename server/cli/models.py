"""What the commands that work on this machine, without a server, share."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.detailer import FaceDetailer
from pipeline.errors import InvalidProfile, WeightsError
from pipeline.images import Picture, decode
from server.cli.options import option_of
from server.cli.texts import printable
from server.engine.plan import Plan, explain, plan
from server.errors import BadParameter, OperatorError, UsageError
from server.settings import Settings


def load_detailer(settings: Settings, console: Console, chosen: Plan | None = None) -> FaceDetailer:
    """The profile on the first device, both as the settings say or as `chosen`; the console shows
    which.

    Raises:
        OperatorError: its weights are missing, or not what the profile says.
    """
    from pipeline.loading import load

    with loading(settings, console, chosen) as (path, device):
        return load(path, device, settings.memory_mode, identity=settings.identity)


@contextlib.contextmanager
def loading(
    settings: Settings, console: Console, chosen: Plan | None = None
) -> Iterator[tuple[Path, str]]:
    """The profile's folder or file, and the device, for a block that loads from them.

    Raises:
        OperatorError: the profile cannot be used, or the block raised a WeightsError.
    """
    chosen = chosen or plan(settings)
    name, device = chosen.profile.name, chosen.devices[0]
    shown = f"{escape(printable(name))} on {device}"
    started = time.monotonic()
    if not console.is_terminal:
        console.print(f"Loading profile {shown} …", highlight=False, soft_wrap=True)
    try:
        with console.status(f"Loading profile {shown} …"):
            yield chosen.profile.path, device
    except (InvalidProfile, WeightsError) as error:
        raise OperatorError(explain(error, name)) from error
    seconds = time.monotonic() - started
    said = f"Profile {shown}, loaded in {seconds:.1f} s."
    console.print(said, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def api_errors() -> Iterator[None]:
    """The API's errors about parameters as the operator's, with the same text; but fields are named
    as their options.
    """
    try:
        yield
    except BadParameter as error:
        text, name = str(error), error.field
        if name and name in text:
            text = text.replace(name, option_of(name))
        elif name:
            text = f"{option_of(name)}: {text}"
        raise UsageError(text) from error


def decode_within(data: bytes, settings: Settings) -> Picture:
    """Read a picture within the settings' limits.

    Raises:
        InvalidImage: it is not a picture, or too large.
    """
    return decode(
        data,
        max_pixels=settings.max_image_pixels,
        max_side_px=settings.max_side_px,
        keep_exif=settings.keep_exif,
    )
