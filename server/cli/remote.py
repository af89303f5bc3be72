"""Pictures detailed by a running server, through `face_detailer_client`."""

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, cast

from face_detailer_client import (
    Cancelled,
    Client,
    DetailFields,
    FaceDetailerError,
    InvalidRequest,
    NotEnoughCredits,
    RequestFailed,
    Unauthorized,
    Unreachable,
)
from pipeline.headers import read_header
from pipeline.report import FaceIdentity
from server.api.parameters import check_format
from server.cli.options import where_from
from server.cli.outputs import place_of
from server.cli.records import work_of
from server.cli.reporting import faces
from server.cli.results import Done, Interrupted, PictureFailed
from server.cli.sources import STANDARD
from server.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from face_detailer_client import Progress, Result
    from server.cli.asked import Asked
    from server.cli.bars import OnStage
    from server.cli.options import Texts
    from server.cli.outputs import Task

_JOBS: Final = 4
_CONFLICT: Final = 409
_NO_LIMIT: Final = 2**40


class Remote:
    """A server's queue."""

    def __init__(self, url: str, key: str | None, fields: "Texts", asked: "Asked") -> None:
        """`fields`: as they were given; the server has its own defaults. `asked`: where requests
        are remembered until their results are kept.

        Raises:
            OperatorError: the address is none, or the key.
        """
        self._url = url
        self._key = key
        self._client = open_client(url, key)
        self._asked = asked
        self._fields = {name: text for name, text in fields.items() if text is not None}

    @property
    def kind(self) -> Mapping[str, object]:
        """Which server it is."""
        return {"url": self._url}

    @property
    def jobs(self) -> int:
        """As many as keep a server busy while others are sent and fetched."""
        return _JOBS

    def check(self, task: "Task", data: bytes) -> None:
        """See that the picture's header can be read; the limits are the server's.

        Raises:
            InvalidImage, BadParameter: it cannot, or its format does not hold it.
        """
        header = read_header(data, max_pixels=_NO_LIMIT, max_side_px=_NO_LIMIT)
        check_format(task.options.encoding, max(header.width_px, header.height_px))

    def start(self) -> None:
        """See that the server is there and takes the key.

        Raises:
            OperatorError: it is not, or does not.
        """
        check_server(self._url, self._key)
        self._asked.drop_old()

    def detail(self, task: "Task", data: bytes, on_stage: "OnStage", stop: threading.Event) -> Done:
        """Do one picture; once `stop` is set its request is cancelled.

        Raises:
            PictureFailed: it cannot be done.
            Interrupted: `stop` was set.
            OperatorError: the server is gone, or takes neither this picture nor the next.
        """
        try:
            result = self._result(task, data, on_stage, stop)
        except Cancelled as error:
            if stop.is_set():
                raise Interrupted from error
            raise PictureFailed(str(error)) from error
        except (Unauthorized, NotEnoughCredits, Unreachable) as error:
            raise OperatorError(str(error)) from error
        except FaceDetailerError as error:
            raise PictureFailed(str(error)) from error
        return Done(
            files=tuple(picture.data for picture in result.pictures),
            found=result.faces.found,
            detailed=result.faces.detailed,
            left_out=result.faces.left_out,
            unchanged=result.faces.unchanged,
            unread=result.prompt_unread,
            identity=tuple(FaceIdentity(**asdict(judged)) for judged in result.identity),
            seconds=result.inference_s,
            seed=result.seed,
            cost=result.cost,
        )

    def kept(self, task: "Task", data: bytes) -> None:
        """Forget that it was asked for: the next run wants new work."""
        self._asked.forget(self._work(task, data))

    def _result(
        self, task: "Task", data: bytes, on_stage: "OnStage", stop: threading.Event
    ) -> "Result":
        """The server's. What a killed run has asked for is fetched, and paid once; if that failed
        or was cancelled, it is asked for anew.
        """
        work = self._work(task, data)
        for may_be_known in (True, False):
            key = uuid.uuid4().hex if STANDARD in task.outputs else self._asked.key(work)
            try:
                return self._client.detail(
                    data,
                    on_progress=lambda now: on_stage(_in_words(now), now.share),
                    should_stop=stop.is_set,
                    idempotency_key=key,
                    # Text, as from a form: the server reads it and says what is wrong with it.
                    **cast(DetailFields, self._fields_of(task)),
                )
            except (RequestFailed, InvalidRequest, NotEnoughCredits) as error:
                # A request that could not be cancelled goes on, and the next run may fetch it.
                if stop.is_set():
                    raise
                self._asked.forget(work)
                if not (may_be_known and _is_of_earlier(error)):
                    raise
        raise AssertionError

    def _fields_of(self, task: "Task") -> dict[str, str]:
        return {**self._fields, "image_format": task.options.encoding.image_format}

    def _work(self, task: "Task", data: bytes) -> str:
        """What tells it from what else this or another run asks for."""
        places = [os.fsencode(place_of(output)).hex() for output in task.outputs]
        return work_of(data, {**self.kind, "fields": self._fields_of(task), "places": places})


def _is_of_earlier(error: FaceDetailerError) -> bool:
    """Whether nothing comes of it because its key was used before: what was asked for by it had
    ended, or the server's defaults were others.
    """
    if isinstance(error, RequestFailed):
        return error.known
    return isinstance(error, InvalidRequest) and error.status == _CONFLICT


def open_client(url: str, key: str | None, patience_s: float = 60.0) -> Client:
    """A client of the server at this address.

    Raises:
        UsageError: it is no address, or that is no key; or there is none.
    """
    try:
        client = Client(url, key, patience_s=patience_s)
    except ValueError as error:
        name, value = ("key", key) if "API key" in str(error) else ("url", url)
        raise UsageError(f"{where_from(name, value)}: {error}.") from error
    if not key:
        raise UsageError(
            "A server wants an API key: pass --key, or set FACE_DETAILER_KEY. `face-detailer keys "
            "create` makes one where the server runs."
        )
    return client


@contextlib.contextmanager
def client_errors() -> Iterator[None]:
    """What the client raises as the operator's, with the same text."""
    try:
        yield
    except FaceDetailerError as error:
        raise OperatorError(str(error)) from error


def check_server(url: str, key: str | None) -> None:
    """Ask the server once, before anything is sent.

    Raises:
        OperatorError: it does not answer, or takes no such key.
    """
    with client_errors(), open_client(url, key, patience_s=0.0) as client:
        client.credits()


def _in_words(now: "Progress") -> str:
    """What happens."""
    match now.stage:
        case "queued":
            return f"queued, {now.ahead} ahead"
        case "found":
            return faces(now.faces)
        case "outline" | "detail":
            return f"{faces(now.faces)}, {now.stage}, step {now.step} of {now.steps}"
        case stage:
            return stage
