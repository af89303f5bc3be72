"""The client: one call per picture."""

import base64
import contextlib
import dataclasses
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, Unpack
from urllib.parse import urlsplit

import httpx

from face_detailer_client.errors import Cancelled, FaceDetailerError, RequestFailed, TimedOut
from face_detailer_client.fields import DetailFields, DetectFields, as_form, check_known
from face_detailer_client.following import follow
from face_detailer_client.values import (
    Detections,
    Face,
    FaceIdentity,
    Faces,
    OnProgress,
    Picture,
    Progress,
    Result,
    ShouldStop,
)
from face_detailer_client.wire import IDEMPOTENCY_HEADER, Wire

Image = str | os.PathLike[str] | bytes
"""A file's path or bytes, or an http(s) URL that the server fetches."""

URL_VARIABLE: Final = "FACE_DETAILER_URL"
KEY_VARIABLE: Final = "FACE_DETAILER_KEY"
_SCHEMES: Final = ("http", "https")
_LOOK_EVERY_S: Final = 0.1
_ENDED: Final = ("COMPLETED", "FAILED")
_TIMES: Final = {"inference_s": "inference_time", "queue_s": "queue_time", "total_s": "total_time"}


class Client:
    """A server and an API key; safe to use from several threads."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        patience_s: float = 60.0,
        http: httpx.Client | None = None,
    ) -> None:
        """A client; nothing is sent yet.

        Args:
            url: the server's address, with its path prefix if there is one. Default: the variable
                `FACE_DETAILER_URL`.
            key: the API key. Default: the variable `FACE_DETAILER_KEY`.
            patience_s: for how long a call that finds no server, or a busy one, is tried again; a
                request keeps its `Idempotency-Key` over all tries, so it is paid once.
            http: makes the calls, e.g. with a proxy of its own; closed with the client.

        Raises:
            ValueError: there is no address, or it is none; or no header can carry the key.
        """
        url = (url or os.environ.get(URL_VARIABLE, "")).strip().rstrip("/")
        key = (key or os.environ.get(KEY_VARIABLE, "")).strip()
        if not _is_address(url):
            raise ValueError(f"The server's address should be an http(s) URL, got {url!r}")
        if not (key.isascii() and (key.isprintable() or not key)):
            raise ValueError("The API key should consist of printable ASCII characters")
        # Segmind's package is given addresses that end so.
        self._wire = Wire(url.removesuffix("/v1"), key, patience_s, http)
        self._patience_s = patience_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    def detail(
        self,
        image: Image,
        *,
        prompt: str = "detailed face",
        denoise: float = 0.4,
        on_progress: OnProgress = lambda _progress: None,
        should_stop: ShouldStop = lambda: False,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[DetailFields],
    ) -> Result:
        """Detail the faces of a picture, through the server's queue, and fetch the result.

        Args:
            image: a file's path or bytes, or a URL that the server fetches.
            prompt: what the faces should look like; may be empty.
            denoise: how much a face may change, 0–1.
            on_progress: called at each stage and step, from this thread.
            should_stop: asked several times a second; once it answers True the request is cancelled
                and costs nothing.
            timeout_s: the most that all of it may take; then the request is cancelled.
            idempotency_key: 1–255 printable ASCII characters. Calls with the same key and values,
                of other processes too, are one work and one charge. Default: one of this call.
            fields: any other field of the API.

        Raises:
            FaceDetailerError: see the classes of `face_detailer_client.errors`.
            OSError: the file cannot be read.
            TypeError: `fields` has a name that is none.
        """
        check_known(fields, DetailFields)
        body = _body(image, {"prompt": prompt, "denoise": denoise, **fields})
        headers = {IDEMPOTENCY_HEADER: idempotency_key or uuid.uuid4().hex}
        ends_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s

        def ended() -> bool:
            return should_stop() or time.monotonic() > ends_s

        try:
            on_progress(Progress("sending"))
            accepted = self._wire.json("POST", "/v2/face-detailer", ended, headers=headers, **body)
            with self._wire.understood():
                request_id = str(accepted["request_id"])
                is_known = accepted.get("status") in _ENDED
            with self._cancelled_on(request_id, ended), _marking(is_known):
                told = follow(self._wire, request_id, on_progress, ended, self._patience_s)
        except Cancelled:
            if time.monotonic() > ends_s and not should_stop():
                raise TimedOut(f"The result did not come within {timeout_s:g} s") from None
            raise
        on_progress(Progress("fetching"))
        return self._result(told, should_stop)

    def detect(self, image: Image, **fields: Unpack[DetectFields]) -> Detections:
        """Show which faces would be detailed; repaints nothing and costs nothing.

        Raises:
            FaceDetailerError: see the classes of `face_detailer_client.errors`.
            OSError: the file cannot be read.
            TypeError: `fields` has a name that is none.
        """
        check_known(fields, DetectFields)
        body = _body(image, fields)
        found = self._wire.json("POST", "/v1/face-detailer/detect", lambda: False, **body)
        with self._wire.understood():
            overlay = found.get("overlay")
            return Detections(
                width=found["width"],
                height=found["height"],
                faces=tuple(map(_face, found["faces"])),
                rejected=tuple(map(_face, found["rejected"])),
                overlay=None if overlay is None else base64.b64decode(overlay),
            )

    def credits(self) -> float:
        """The credits that the key's account has left.

        Raises:
            FaceDetailerError: see the classes of `face_detailer_client.errors`.
        """
        account = self._wire.json("GET", "/v1/get-user-credits", lambda: False)
        with self._wire.understood():
            return float(account["credits"])

    def cancel(self, request_id: str) -> None:
        """Stop a request; one that has ended stays as it is.

        Raises:
            FaceDetailerError: see the classes of `face_detailer_client.errors`.
        """
        # Twice is the same as once, so that it may be tried again like any call with a key.
        headers = {IDEMPOTENCY_HEADER: f"cancel {request_id}"}
        path = f"/v2/requests/{request_id}/cancel"
        self._wire.json("POST", path, lambda: False, headers=headers)

    @contextlib.contextmanager
    def _cancelled_on(self, request_id: str, ended: ShouldStop) -> Iterator[None]:
        """Cancels the request when `ended` answers True, or when Ctrl-C ends the block."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK_EVERY_S):
                if ended():
                    with contextlib.suppress(FaceDetailerError):
                        self.cancel(request_id)
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        except KeyboardInterrupt:
            with contextlib.suppress(FaceDetailerError):
                self.cancel(request_id)
            raise
        finally:
            over.set()

    def _result(self, told: Mapping[str, Any], should_stop: ShouldStop) -> Result:
        with self._wire.understood():
            # Their URLs are the ones for everybody; this client may reach the server by another.
            places = [str(image["url"]).rpartition("/v2/results/")[2] for image in told["images"]]
        paths = [f"/v2/results/{place}" for place in places]
        files = [self._wire.reply("GET", path, should_stop).content for path in paths]
        with self._wire.understood():
            metrics, faces = told["metrics"], dict(told["faces"])
            # A newer server may tell of more.
            known = {f.name: faces[f.name] for f in dataclasses.fields(Faces) if f.name in faces}
            return Result(
                request_id=told["request_id"],
                pictures=tuple(map(_picture, files, told["images"])),
                faces=Faces(**known),
                seed=told["seed"],
                cost=metrics["cost"],
                remaining_credits=metrics["remaining_credits"],
                prompt_unread=tuple(told.get("prompt_unread", ())),
                note=told.get("profile_note", ""),
                identity=tuple(_identity(judged) for judged in told.get("identity", ())),
                **{name: metrics.get(wire_name, 0.0) for name, wire_name in _TIMES.items()},
            )


@contextlib.contextmanager
def _marking(is_known: bool) -> Iterator[None]:
    """Notes on a failure that it is an earlier call's."""
    try:
        yield
    except RequestFailed as error:
        error.known = is_known
        raise


def _identity(judged: Mapping[str, Any]) -> FaceIdentity:
    """A newer server may tell of more."""
    return FaceIdentity(**{f.name: judged[f.name] for f in dataclasses.fields(FaceIdentity)})


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Asking for the port reads it; httpx is stricter about letters.
        return bool(parts.hostname) and parts.port != 0 and httpx.URL(url).scheme in _SCHEMES
    except (httpx.InvalidURL, ValueError):
        return False


def _body(image: Image, fields: Mapping[str, object]) -> dict[str, Any]:
    """A form with the picture's bytes, or JSON with its URL."""
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        given = {name: value for name, value in fields.items() if value is not None}
        return {"json": {**given, "image": image}}
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    return {"files": {"image": ("image", data)}, "data": as_form(fields)}


def _face(found: Mapping[str, Any]) -> Face:
    x0, y0, x1, y1 = found["box"]
    return Face((x0, y0, x1, y1), found["score"], found["quarter_turns"], found.get("reason"))


def _picture(data: bytes, told: Mapping[str, Any]) -> Picture:
    return Picture(data, told["content_type"], told["width"], told["height"])
