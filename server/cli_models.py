"""What the commands that work on this machine, without a server, have in common."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from pipeline.detailer import FaceDetailer
from pipeline.errors import WeightsError
from pipeline.images import Picture, decode
from server.devices import plan_workers
from server.errors import OperatorError
from server.profiles import check_weights, profile_path, with_remedy
from server.settings import Settings
from server.types import ImageFormat

FORMATS: dict[str, ImageFormat] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
}


def load_detailer(settings: Settings, console: Console) -> FaceDetailer:
    """The profile on the first device, both as the settings say; told on the console.

    Raises:
        OperatorError: its weights are not there, or not what the profile says.
    """
    from pipeline.loading import load

    with loading(settings, console) as (path, device):
        return load(path, device, settings.memory_mode)


@contextlib.contextmanager
def loading(settings: Settings, console: Console) -> Iterator[tuple[Path, str]]:
    """The profile's folder or file, and the device; the block loads what it needs of them.

    Raises:
        OperatorError: in place of the block's WeightsError.
    """
    plan = plan_workers(settings.devices, settings.profile)
    device = plan.devices[0]
    check_weights(plan.profile, settings.data_dir)
    try:
        with console.status(f"Loading profile {plan.profile} on {device}"):
            yield profile_path(plan.profile, settings.data_dir), device
    except WeightsError as error:
        raise OperatorError(with_remedy(error, plan.profile)) from error
    console.print(f"Profile {plan.profile} on {device}.", highlight=False)


def read_picture(file: Path, settings: Settings) -> Picture:
    """Read a picture within the settings' limits.

    Raises:
        InvalidImage: it is none, or too large.
        OSError: the file cannot be read.
    """
    return decode(
        file.read_bytes(),
        max_pixels=settings.max_image_pixels,
        max_side_px=settings.max_side_px,
    )


def write_file(file: Path, data: bytes) -> None:
    """Renamed when complete: a crash or a full disk leaves what was there before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_bytes(data)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
