"""Who finds the faces for `face-detailer detect`: this machine's models, or a server."""

from typing import TYPE_CHECKING, Protocol, cast

from face_detailer_client import (
    Detections,
    Face,
    FaceDetailerError,
    NotEnoughCredits,
    Unauthorized,
    Unreachable,
)
from pipeline.encoding import encode
from pipeline.errors import InvalidImage
from pipeline.transparency import extend
from server.api.parameters import check_format
from server.cli.results import PictureFailed
from server.engine.plan import plan
from server.errors import BadParameter, OperatorError

if TYPE_CHECKING:
    from face_detailer_client import DetectFields
    from pipeline.detailer import FaceDetailer
    from pipeline.images import Picture
    from pipeline.types import Detection
    from server.cli.options import Texts
    from server.cli.sources import Source
    from server.settings import Settings
    from server.types import DetectOptions


class Finder(Protocol):
    """Finds the faces of one picture after the other."""

    def find(self, source: "Source", options: "DetectOptions") -> Detections:
        """The picture's faces, and an overlay if the options ask for one.

        Raises:
            PictureFailed: they cannot be found; those of another picture may.
            OperatorError: nor can those of any other.
        """


class Here:
    """This machine's models, loaded for the first picture that can be read."""

    def __init__(self, settings: "Settings") -> None:
        """Nothing is loaded yet.

        Raises:
            OperatorError: profile or device cannot be used.
        """
        self._settings = settings
        self._plan = plan(settings)
        self._detailer: FaceDetailer | None = None

    def find(self, source: "Source", options: "DetectOptions") -> Detections:
        """See `Finder`."""
        picture = self._read(source, options)
        image = extend(picture.image, picture.alpha)
        detailer = self._loaded()
        detections = detailer.detect(image, options.selection)
        drawn = None
        if options.overlay:
            encoding = options.encoding
            shown = detailer.explain(image, detections)
            drawn = encode(shown, None, encoding.image_format, encoding.image_quality)
        found = [(detection.rejected is None, _face(detection)) for detection in detections]
        return Detections(
            width=image.width_px,
            height=image.height_px,
            faces=tuple(face for counts, face in found if counts),
            rejected=tuple(face for counts, face in found if not counts),
            overlay=drawn,
        )

    def _read(self, source: "Source", options: "DetectOptions") -> "Picture":
        from server.cli.models import decode_within

        try:
            picture = decode_within(_bytes_of(source), self._settings)
            if options.overlay:
                image = picture.image
                check_format(options.encoding, max(image.width_px, image.height_px))
        except (InvalidImage, BadParameter) as error:
            raise PictureFailed(str(error)) from error
        return picture

    def _loaded(self) -> "FaceDetailer":
        from rich.console import Console

        from server.cli.models import load_detailer

        if self._detailer is None:
            self._detailer = load_detailer(self._settings, Console(stderr=True), self._plan)
        return self._detailer


class There:
    """A running server."""

    def __init__(self, url: str, key: str | None, fields: "Texts") -> None:
        """`fields`: as they were given; the server has its own defaults.

        Raises:
            UsageError: the address is none, or the key.
            OperatorError: the server does not answer, or takes no such key.
        """
        from server.cli.remote import check_server, open_client

        check_server(url, key)
        self._client = open_client(url, key)
        self._fields = {name: text for name, text in fields.items() if text is not None}

    def find(self, source: "Source", options: "DetectOptions") -> Detections:
        """See `Finder`."""
        given = dict(self._fields)
        if options.overlay:
            given |= {"overlay": "true", "image_format": options.encoding.image_format}
        try:
            # Text, as from a form: the server reads it and says what is wrong with it.
            return self._client.detect(_bytes_of(source), **cast("DetectFields", given))
        except (Unauthorized, NotEnoughCredits, Unreachable) as error:
            raise OperatorError(str(error)) from error
        except FaceDetailerError as error:
            raise PictureFailed(str(error)) from error


def _bytes_of(source: "Source") -> bytes:
    try:
        return source.read()
    except OSError as error:
        raise PictureFailed(f"{error.strerror}") from error


def _face(detection: "Detection") -> Face:
    box = detection.box
    x0, y0, x1, y1 = (round(float(value), 1) for value in (box.x0, box.y0, box.x1, box.y1))
    score = round(float(box.score), 3)
    return Face((x0, y0, x1, y1), score, box.quarter_turns, detection.rejected)
