"""What a worker does with a job: from the file's bytes to the outcome."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.images import Picture, decode, encode
from pipeline.request import DetailRequest, DetailResult
from pipeline.types import Find, Image
from server.link import Setup
from server.types import DetailOptions, DetectOptions, Job, Outcome

_SHARED_OPTIONS = tuple(
    name
    for name in DetailRequest.__dataclass_fields__
    if name in DetailOptions.__dataclass_fields__
)


class Detailer(Protocol):
    """What a loader gives back: `pipeline.detailer.FaceDetailer`, or what walks like it.

    Called from several threads at a time.
    """

    def __call__(
        self,
        request: DetailRequest,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> DetailResult:
        """Do one request."""

    def inspect(self, request: DetailRequest) -> list[Find]:
        """What looks like a face, and what of it counts."""

    def explain(self, request: DetailRequest, finds: Sequence[Find]) -> Image:
        """The picture with that drawn in."""


def do(
    job: Job,
    setup: Setup,
    detailer: Detailer,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Outcome:
    """Do one job.

    Raises:
        InvalidImage: the picture cannot be read, or passes a limit.
        Stopped: `should_stop` answered True.
    """
    started = time.monotonic()
    picture = decode(job.picture, max_pixels=setup.max_image_pixels, max_side_px=setup.max_side_px)
    decode_s = time.monotonic() - started
    if isinstance(job.options, DetectOptions):
        return _detect(picture, job.options, detailer, decode_s)
    return _detail(picture, job.options, detailer, decode_s, on_progress, should_stop)


def _detail(
    picture: Picture,
    options: DetailOptions,
    detailer: Detailer,
    decode_s: float,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Outcome:
    result = detailer(detail_request(picture, options), on_progress, should_stop)
    detailed = time.monotonic()
    pictures = tuple(
        encode(image, result.alpha, options.image_format, options.image_quality)
        for image in result.images
    )
    return Outcome(
        pictures=pictures,
        width_px=result.images[0].width_px,
        height_px=result.images[0].height_px,
        faces=result.faces,
        kept=result.kept,
        seconds={"decode": decode_s, **result.seconds, "encode": time.monotonic() - detailed},
    )


def _detect(
    picture: Picture, options: DetectOptions, detailer: Detailer, decode_s: float
) -> Outcome:
    started = time.monotonic()
    request = detection_request(picture.image, options)
    finds = detailer.inspect(request)
    found = time.monotonic()
    pictures: tuple[bytes, ...] = ()
    if options.overlay:
        overlay = detailer.explain(request, finds)
        pictures = (encode(overlay, None, options.image_format, options.image_quality),)
    return Outcome(
        pictures=pictures,
        width_px=picture.image.width_px,
        height_px=picture.image.height_px,
        seconds={
            "decode": decode_s,
            "detect": found - started,
            "overlay": time.monotonic() - found,
        },
        finds=tuple(finds),
    )


def detail_request(picture: Picture, options: DetailOptions) -> DetailRequest:
    """The request that the options ask for."""
    return DetailRequest(
        image=picture.image,
        alpha=picture.alpha,
        **{name: getattr(options, name) for name in _SHARED_OPTIONS},
    )


def detection_request(image: Image, options: DetectOptions) -> DetailRequest:
    """The request whose faces are to be found; nothing is repainted."""
    return DetailRequest(
        image=image,
        prompt="",
        denoise=0,
        max_faces=options.max_faces,
        min_face_px=options.min_face_px,
        face_order=options.face_order,
        detection_threshold=options.detection_threshold,
    )
