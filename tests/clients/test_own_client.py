"""`face_detailer_client` against the server as it is started."""

import json
import os
import threading
import time
from pathlib import Path
from typing import get_type_hints

import httpx
import PIL.Image
import pytest

from face_detailer_client import (
    Cancelled,
    Client,
    DetailFields,
    DetectFields,
    FaceDetailerError,
    Faces,
    InvalidRequest,
    Progress,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from server.api.contract import DETECT_FIELDS, V2_FIELDS

DAMAGED = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"


@pytest.fixture
def client(server_url, new_key):
    with Client(server_url, new_key(1)) as client:
        yield client


def test_it_takes_every_field_of_the_api():
    explicit = {"image", "prompt", "denoise", "base64"}
    assert get_type_hints(DetailFields).keys() == {f.name for f in V2_FIELDS} - explicit
    assert get_type_hints(DetectFields).keys() == {f.name for f in DETECT_FIELDS} - {"image"}


@pytest.mark.parametrize("call", ["detail", "detect"])
def test_a_misspelt_field_is_no_request(call):
    with (
        Client("http://127.0.0.1:9", "SG_key") as client,
        pytest.raises(TypeError, match="'denois'"),
    ):
        getattr(client, call)(DAMAGED, denois=0.8)


def test_a_picture_is_detailed_with_its_progress(client, tmp_path):
    seen: list[Progress] = []
    result = client.detail(DAMAGED, upscale=1, image_format="png", on_progress=seen.append)
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages[0] == "sending"
    assert stages[-1] == "fetching"
    assert {"queued", "detail"} <= set(stages)
    steps = [progress for progress in seen if progress.stage == "detail"]
    assert (steps[-1].done, steps[-1].faces) == (steps[-1].total, 1)
    assert (result.faces.found, result.faces.detailed, result.seed) == (1, 1, 12467)
    assert (result.cost, result.remaining_credits, client.credits()) == (0.01, 0.99, 0.99)
    assert result.total_s >= result.inference_s > 0
    with PIL.Image.open(result.save(tmp_path / "out.png")) as image:
        assert (image.format, image.size) == ("PNG", (512, 512))
    assert (result.pictures[0].width, result.pictures[0].content_type) == (512, "image/png")


def test_bytes_samples_and_values_of_every_type(client, picture):
    result = client.detail(
        picture, prompt="", denoise=0, samples=2, keep_grain=False, min_face_px=20.5
    )
    assert [picture.width for picture in result.pictures] == [128, 128]
    assert result.data[:2] == b"\xff\xd8"
    assert result.cost == 0.02


def test_the_same_key_is_one_charge(client, picture):
    first, again = (client.detail(picture, idempotency_key="mine") for _ in range(2))
    assert first.request_id == again.request_id
    assert client.credits() == 0.99
    with pytest.raises(InvalidRequest, match="Idempotency-Key was used with another request"):
        client.detail(picture, denoise=0.5, idempotency_key="mine")


def test_an_answer_that_gets_lost_is_asked_for_again_and_paid_once(server_url, new_key, picture):
    """The server has accepted the request; its answer does not arrive."""

    class Loses(httpx.HTTPTransport):
        lost = 0

        def handle_request(self, request):
            reply = super().handle_request(request)
            if request.method == "POST" and self.lost == 0:
                self.lost += 1
                reply.read()
                raise httpx.ReadError("the line is dead")
            return reply

    transport = Loses()
    with Client(server_url, new_key(1), http=httpx.Client(transport=transport)) as client:
        client.detail(picture, denoise=0)
        assert (transport.lost, client.credits()) == (1, 0.99)


@pytest.mark.slow
def test_a_busy_server_is_asked_again_when_it_says(server_url, new_key, picture):
    """And for no longer than there is patience."""

    class Busy(httpx.HTTPTransport):
        refusals = 2

        def handle_request(self, request):
            if request.url.path == "/v2/face-detailer" and self.refusals:
                self.refusals -= 1
                body = {"error": "Server is busy"}
                return httpx.Response(429, headers={"Retry-After": "1"}, json=body)
            return super().handle_request(request)

    transport = Busy()
    with Client(server_url, new_key(1), http=httpx.Client(transport=transport)) as client:
        assert client.detail(picture, denoise=0, prompt="a\udcff").cost == 0.01
    transport.refusals = 100
    http = httpx.Client(transport=transport)
    with (
        Client(server_url, new_key(1), http=http, patience_s=0.1) as client,
        pytest.raises(TooManyRequests, match=r"^Server is busy$") as caught,
    ):
        client.detail(picture)
    assert caught.value.retry_after_s == 1


def test_a_stream_that_breaks_goes_on(server_url, new_key, picture):
    class Breaks(httpx.HTTPTransport):
        asked: list[str | None] = []  # noqa: RUF012 - one test

        def handle_request(self, request):
            if not request.url.path.endswith("/events"):
                return super().handle_request(request)
            self.asked.append(request.headers.get("last-event-id"))
            reply = super().handle_request(request)
            if len(self.asked) == 1:
                next(iter(reply.stream))
                reply.close()
                raise httpx.ReadError("the line is dead")
            return reply

    with Client(server_url, new_key(1), http=httpx.Client(transport=Breaks())) as client:
        assert client.detail(picture, denoise=0).faces.found == 0
    assert len(Breaks.asked) >= 2


@pytest.mark.slow
def test_a_stream_that_breaks_after_a_long_silence_goes_on_too(server_url, new_key, picture):
    """Patience begins when the connection is lost, not at the last event."""

    class Silent(httpx.SyncByteStream):
        def __iter__(self):
            time.sleep(1)
            raise httpx.ReadError("the line is dead")

    class Breaks(httpx.HTTPTransport):
        streams = 0

        def handle_request(self, request):
            if request.url.path.endswith("/events"):
                self.streams += 1
                if self.streams == 1:
                    return httpx.Response(200, stream=Silent())
            return super().handle_request(request)

    http = httpx.Client(transport=Breaks(), timeout=60)
    with Client(server_url, new_key(1), http=http, patience_s=0.5) as client:
        assert client.detail(picture, denoise=0).cost == 0.01


@pytest.mark.slow
def test_faces_are_found_for_nothing(client):
    found = client.detect(DAMAGED, overlay=True, image_format="png")
    assert ((found.width, found.height), len(found.faces)) == ((512, 512), 1)
    assert found.faces[0].score > 0.5
    assert found.overlay is not None
    assert found.overlay.startswith(b"\x89PNG")
    assert {face.reason for face in client.detect(DAMAGED, min_face_px=300).rejected} >= {"size"}
    assert client.credits() == 1


def test_errors_are_the_servers_own_words(client, server_url, picture):
    with pytest.raises(InvalidRequest, match=r"^denoise should be between 0 and 1$") as caught:
        client.detail(picture, denoise=7)
    assert caught.value.status == 400
    with pytest.raises(InvalidRequest, match=r"^Invalid image: the file is not a PNG"):
        client.detail(b"no picture")
    with pytest.raises(RequestFailed, match=r"^Invalid image: its URL cannot be reached$"):
        client.detail("http://127.0.0.1:1/a.png")
    with Client(server_url, "SG_wrong") as stranger, pytest.raises(Unauthorized, match="API key"):
        stranger.credits()
    with pytest.raises(FileNotFoundError):
        client.detail("missing.jpg")
    assert client.credits() == 1


def test_no_server_is_an_error_once_patience_ends():
    with (
        Client("http://127.0.0.1:1", patience_s=0) as client,
        pytest.raises(Unreachable, match=r"^http://127\.0\.0\.1:1 cannot be reached: "),
    ):
        client.credits()


@pytest.mark.parametrize(
    ("call", "status", "tries"),
    [
        ("detail", 504, 3),
        ("detail", 502, 3),
        ("credits", 504, 3),
        ("detect", 503, 3),
        ("detect", 504, 1),
        ("detect", 502, 1),
    ],
)
@pytest.mark.slow
def test_what_a_proxy_answers_is_tried_again_only_where_that_costs_nothing(
    picture, call, status, tries
):
    """A proxy that gave up says nothing of what the server did; only a key makes that harmless."""
    asked = []

    def answer(request):
        asked.append(request.headers.get("idempotency-key"))
        return httpx.Response(status if len(asked) < 3 else 418, json={"error": "teapot"})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    arguments = () if call == "credits" else (picture,)
    with (
        Client("http://a.example", "SG_a", http=http) as client,
        pytest.raises(Unavailable if tries == 1 else InvalidRequest),
    ):
        getattr(client, call)(*arguments)
    assert len(asked) == tries
    assert len(set(asked)) == 1


def test_what_is_no_such_server_is_one_sentence(picture):
    """Another service, with JSON of its own; and a newer server tells more, which is no error."""
    answers = {}

    def answer(request):
        body = answers.get(request.url.path.rpartition("/")[2], {"status": "fine"})
        return httpx.Response(
            200, **({"json": body} if not isinstance(body, str) else {"text": body})
        )

    http = httpx.Client(transport=httpx.MockTransport(answer))
    with Client("http://other.example", "SG_a", http=http) as client:
        sentence = r"^http://other\.example does not answer as a face-detailer server does\.$"
        for call in (
            client.credits,
            lambda: client.detect(picture),
            lambda: client.detail(picture),
        ):
            with pytest.raises(FaceDetailerError, match=sentence):
                call()
        answers["face-detailer"] = {"request_id": "1"}
        result = {
            "request_id": "1",
            "images": [{"url": "a/v2/results/b", "content_type": "c", "width": 1, "height": 1}],
            "faces": {"found": 3, "of_a_later_version": 1},
            "seed": 1,
            "metrics": {"cost": 1, "remaining_credits": 1},
        }
        answers["events"] = f"event: done\ndata: {json.dumps(result)}\n\n"
        assert client.detail(picture).faces == Faces(found=3)
        told = ('queued\ndata: {"ahead": 1}', "found\ndata: no JSON", "done\ndata: {}")
        for event in told:
            answers["events"] = f"event: {event}\n\n"
            with pytest.raises(FaceDetailerError, match=sentence):
                client.detail(picture)


def test_what_takes_too_long_is_cancelled_and_free(client):
    with pytest.raises(TimedOut, match=r"^The result did not come within 0\.01 s$"):
        client.detail(DAMAGED, upscale=4, timeout_s=0.01)
    stop = threading.Event()

    def stop_soon(progress):
        if progress.stage != "sending":
            stop.set()

    with pytest.raises(Cancelled, match=r"^Request was cancelled$"):
        client.detail(DAMAGED, upscale=4, on_progress=stop_soon, should_stop=stop.is_set)
    assert client.credits() == 1


def test_the_address_comes_from_the_environment(monkeypatch, server_url, new_key):
    monkeypatch.setenv("FACE_DETAILER_URL", f"{server_url}/v1/")
    monkeypatch.setenv("FACE_DETAILER_KEY", new_key(2))
    with Client() as client:
        assert client.credits() == 2
    monkeypatch.delenv("FACE_DETAILER_URL")
    with pytest.raises(ValueError, match=r"should be an http\(s\) URL"):
        Client()
    assert "FACE_DETAILER_URL" not in os.environ
