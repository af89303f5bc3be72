"""What becomes of a request: its server-sent events, over as many connections as it takes."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from face_detailer_client.errors import Cancelled, RequestFailed, Unavailable, Unreachable
from face_detailer_client.values import OnProgress, Progress, ShouldStop
from face_detailer_client.wire import Wire

_PAUSE_S: Final = 1.0


def follow(
    wire: Wire,
    request_id: str,
    on_progress: OnProgress,
    should_stop: ShouldStop,
    patience_s: float,
) -> Mapping[str, Any]:
    """Wait for a request's end; its result, as the API has it.

    A connection that breaks is made again, and goes on after the last event; it is given up when
    none comes about for `patience_s` after that.

    Raises:
        RequestFailed: the work failed.
        Cancelled: somebody cancelled it, or `should_stop` answered True while there was no
            connection.
        Unreachable, Unavailable: the server is gone for good.
        Refused: it does not know the request any more.
        FaceDetailerError: what it tells is not understood.
    """
    seen = ""
    lost_s: float | None = None
    while True:
        try:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": seen} if seen else {})
            with wire.stream(f"/v2/requests/{request_id}/events", headers) as lines:
                lost_s = None
                for number, name, text in _events(lines):
                    seen = number
                    with wire.understood():
                        data = dict(json.loads(text))
                        progress = _progress(name, data)
                    if name == "done":
                        return data
                    if progress is None:
                        _raise_if_over(name, data, request_id)
                    else:
                        on_progress(progress)
        except (Unreachable, Unavailable):
            now_s = time.monotonic()
            lost_s = now_s if lost_s is None else lost_s
            if now_s - lost_s > patience_s:
                raise
        if should_stop():
            raise Cancelled("Request was cancelled", request_id)
        time.sleep(_PAUSE_S)


def _raise_if_over(name: str, data: Mapping[str, Any], request_id: str) -> None:
    if name == "failed":
        raise RequestFailed(str(data.get("error")), request_id)
    if name == "cancelled":
        raise Cancelled(str(data.get("error")), request_id)


def _progress(name: str, data: Mapping[str, Any]) -> Progress | None:
    """What an event tells of progress; None: nothing."""
    match name:
        case "queued":
            return Progress("queued", ahead=data["place"])
        case "processing" | "detecting":
            return Progress(name)
        case "upscaling":
            return Progress(name, share=data.get("share", 0.0))
        case "found":
            return Progress("found", faces=data["faces"])
        case "step":
            names = ("faces", "step", "steps", "done", "total")
            figures = {name: data[name] for name in names}
            return Progress(data["pass"], **figures, share=data.get("share", 0.0))
    return None


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """Id, name and data of each event, as https://html.spec.whatwg.org writes them."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "event" in fields and "data" in fields:
                yield fields.get("id", ""), fields["event"], fields["data"]
            fields = {}
