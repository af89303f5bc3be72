"""What a worker does with a job: from the file's bytes to the outcome."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.encoding import encode
from pipeline.images import Picture, decode
from pipeline.progress import OnProgress
from pipeline.report import Usage
from pipeline.request import DetailRequest, DetailResult, Selection
from pipeline.timing import StageTime, timed
from pipeline.transparency import extend
from pipeline.types import Detection, Image
from server.engine.messages import Setup
from server.types import DetailOptions, DetectOptions, Job, Outcome


class Detailer(Protocol):
    """What a loader gives back: `pipeline.detailer.FaceDetailer`, or what walks like it.

    Called from several threads at a time.
    """

    def __call__(
        self,
        request: DetailRequest,
        on_progress: OnProgress,
        should_stop: Callable[[], bool],
    ) -> DetailResult:
        """Do one request."""

    def detect(
        self, image: Image, selection: Selection, should_stop: Callable[[], bool]
    ) -> list[Detection]:
        """What looks like a face, and what of it counts."""

    def usage(self) -> Usage:
        """What the models have done since they were loaded, and the memory they have."""

    def explain(self, image: Image, detections: Sequence[Detection]) -> Image:
        """The picture with that drawn in."""


def do(
    job: Job,
    setup: Setup,
    detailer: Detailer,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> Outcome:
    """Do one job.

    Raises:
        InvalidImage: the picture cannot be read, or passes a limit.
        Stopped: `should_stop` answered True.
    """
    stages: list[StageTime] = []
    with timed(stages, "decode"):
        picture = decode(
            job.picture,
            max_pixels=setup.max_image_pixels,
            max_side_px=setup.max_side_px,
            keep_exif=setup.keep_exif,
        )
    if isinstance(job.options, DetectOptions):
        return _detect(picture, job.options, detailer, stages, should_stop)
    return _detail(picture, job.options, detailer, stages, on_progress, should_stop)


def _detail(
    picture: Picture,
    options: DetailOptions,
    detailer: Detailer,
    stages: list[StageTime],
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> Outcome:
    request = DetailRequest(picture.image, options.recipe, options.selection, picture.alpha)
    result = detailer(request, on_progress, should_stop)
    stages += result.stages
    encoding = options.encoding
    with timed(stages, "encode"):
        pictures = tuple(
            encode(
                image,
                result.alpha,
                encoding.image_format,
                encoding.image_quality,
                picture.metadata,
            )
            for image in result.images
        )
    return Outcome(
        pictures=pictures,
        width_px=result.images[0].width_px,
        height_px=result.images[0].height_px,
        faces=result.faces,
        report=result.report,
        stages=tuple(stages),
    )


def _detect(
    picture: Picture,
    options: DetectOptions,
    detailer: Detailer,
    stages: list[StageTime],
    should_stop: Callable[[], bool],
) -> Outcome:
    with timed(stages, "detect"):
        visible = extend(picture.image, picture.alpha)
        detections = detailer.detect(visible, options.selection, should_stop)
    pictures: tuple[bytes, ...] = ()
    if options.overlay:
        with timed(stages, "overlay"):
            overlay, encoding = detailer.explain(visible, detections), options.encoding
            pictures = (encode(overlay, None, encoding.image_format, encoding.image_quality),)
    return Outcome(
        pictures=pictures,
        width_px=picture.image.width_px,
        height_px=picture.image.height_px,
        stages=tuple(stages),
        detections=tuple(detections),
    )
