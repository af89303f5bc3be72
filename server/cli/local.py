"""Pictures detailed by this machine's own models."""

import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from pipeline.config_reading import read_profile
from pipeline.errors import InvalidImage, ModelFailed, OutOfMemory, Stopped
from pipeline.headers import read_header
from server.api.parameters import fit
from server.cli.bars import OnStage
from server.cli.outputs import Task
from server.cli.reporting import faces
from server.cli.results import Done, Interrupted, PictureFailed
from server.engine.plan import plan
from server.errors import BadParameter, OperatorError
from server.settings import Settings

if TYPE_CHECKING:
    from pipeline.detailer import FaceDetailer
    from pipeline.images import Picture
    from pipeline.progress import OnProgress, Progress
    from pipeline.request import DetailResult
    from pipeline.types import Image

_STEPS_QUALITY: Final = 85
# One picture's decoding and encoding fill the gaps between another's steps; a CPU has no gaps.
_JOBS_ON_A_GPU: Final = 2


class Local:
    """The profile and the first device of the settings."""

    def __init__(self, settings: Settings, steps: Path | None) -> None:
        """`steps`: the folder for a picture of each step.

        Raises:
            OperatorError: profile or device cannot be used. Nothing is loaded yet.
        """
        self._settings = settings
        self._steps = steps
        self._plan = plan(settings)
        self._detailer: FaceDetailer | None = None

    @property
    def kind(self) -> Mapping[str, object]:
        """The profile's values, and the settings and the version that results depend on."""
        return {
            "version": version("face-detailer"),
            "profile": repr(read_profile(self._plan.profile.path)),
            "max_side_px": self._settings.max_side_px,
            "max_request_steps": self._settings.max_request_steps,
            "keep_exif": self._settings.keep_exif,
            **({} if (gate := self._settings.identity) == "off" else {"identity": gate}),
        }

    @property
    def jobs(self) -> int:
        """On a CPU one."""
        return _JOBS_ON_A_GPU if self._plan.devices[0].startswith("cuda") else 1

    def check(self, task: Task, data: bytes) -> None:
        """See that the picture's header can be read, within the limits.

        Raises:
            InvalidImage, BadParameter: it cannot.
        """
        limits = self._settings
        header = read_header(
            data, max_pixels=limits.max_image_pixels, max_side_px=limits.max_side_px
        )
        fit(task.options, max(header.width_px, header.height_px), limits.max_side_px)

    def start(self) -> None:
        """Load the models.

        Raises:
            OperatorError: their files are not what the profile says.
        """
        from server.cli import models

        self._detailer = models.load_detailer(self._settings, Console(stderr=True), self._plan)

    def detail(self, task: Task, data: bytes, on_stage: OnStage, stop: threading.Event) -> Done:
        """Do one picture.

        Raises:
            PictureFailed: it cannot be done.
            Interrupted: `stop` was set.
        """
        from server.cli.models import decode_within

        def on_progress(now: "Progress") -> None:
            on_stage(_in_words(now), now.share)

        try:
            picture = decode_within(data, self._settings)
            result = self._walk(task, picture, on_progress, stop)
        except Stopped:
            raise Interrupted from None
        except (InvalidImage, ModelFailed, OutOfMemory, BadParameter) as error:
            raise PictureFailed(str(error)) from error
        return _done(task, result, picture)

    def kept(self, task: Task, data: bytes) -> None:
        """Nothing is left of it."""

    def _walk(
        self, task: Task, picture: "Picture", on_progress: "OnProgress", stop: threading.Event
    ) -> "DetailResult":
        from pipeline.illustration import illustrate
        from pipeline.request import DetailRequest

        assert self._detailer is not None, "start comes first"  # noqa: S101 - for mypy
        longer_side_px = max(picture.image.width_px, picture.image.height_px)
        options = fit(task.options, longer_side_px, self._settings.max_side_px)
        request = DetailRequest(picture.image, options.recipe, options.selection, picture.alpha)
        if self._steps is None:
            return self._detailer(request, on_progress, stop.is_set)
        result, shown = illustrate(self._detailer, request, on_progress, stop.is_set)
        _write_steps(self._steps, shown)
        return result


def _in_words(now: "Progress") -> str:
    match now.stage:
        case "found":
            return faces(now.faces)
        case "outline" | "detail" if now.step is not None:
            return f"{faces(now.faces)}, {now.stage}, step {now.step.number} of {now.step.count}"
        case stage:
            return stage


def _done(task: Task, result: "DetailResult", picture: "Picture") -> Done:
    from pipeline.encoding import encode

    encoding, report = task.options.encoding, result.report
    metadata = picture.metadata
    return Done(
        files=tuple(
            encode(image, result.alpha, encoding.image_format, encoding.image_quality, metadata)
            for image in result.images
        ),
        found=report.found,
        detailed=len(result.faces),
        left_out={str(reason): count for reason, count in report.left_out.items()},
        unchanged=report.unchanged,
        unread=report.unread,
        identity=report.identity,
        seconds=sum(result.seconds.values()),
        seed=task.options.recipe.seed,
    )


def _write_steps(folder: Path, pictures: "Mapping[str, Image]") -> None:
    from pipeline.encoding import encode
    from weights.files import write_file

    for number, (name, image) in enumerate(pictures.items(), start=1):
        file = folder / f"{number}-{name}.jpg"
        try:
            write_file(file, encode(image, None, "jpeg", _STEPS_QUALITY))
        except OSError as error:
            raise OperatorError(f"{file}: {error.strerror}") from error
