"""A place in the queue comes first: what is refused, and when, with real workers."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import contract_calls
import httpx
import numpy as np
import PIL.Image
import pytest
import worker_loads
from contract_calls import assert_error, hanging_up
from http_service import Service, encoded, running
from waiting import until
from workers_support import begun, loader, pixels, png, stopped, until_ready

from server.engine.workers import WorkerPool
from server.settings import Settings

Serve = Callable[..., AbstractContextManager[Service]]
BROKEN = "Invalid image: the file is broken or incomplete and cannot be read"


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A server whose workers invert pictures, and do what prompts order."""

    @contextmanager
    def serve(**values: object) -> Iterator[Service]:
        given = {"data_dir": tmp_path / "data", "devices": ("cpu",), "profile": "tiny", **values}
        settings = Settings(**given)
        pool = WorkerPool(settings, load=loader(worker_loads.inverter))
        with running(settings, pool) as service:
            until_ready(service.client)
            yield service

    return serve


def body(image: bytes, prompt: str = "", **fields: object) -> dict[str, object]:
    text = base64.b64encode(image).decode()
    given = {"image": text, "prompt": prompt, "denoise": 0.4, "image_format": "png", "upscale": 1}
    return {**given, **fields}


@contextmanager
def sending(service: Service, key: str, part: bytes = b'{"prompt": ') -> Iterator[socket.socket]:
    """A call whose body never comes to its end."""
    with contract_calls.sending(service.url, "/v1/face-detailer", key, part, 10**6) as connection:
        yield connection


def status_of(connection: socket.socket) -> tuple[int, str]:
    """The reply's status and its error."""
    data = b""
    while not data.endswith(b"}\n"):
        received = connection.recv(65536)
        assert received, data
        data += received
    head, _, text = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text)["error"]


def test_with_the_queue_full_a_call_is_answered_before_its_body_has_come(
    serve: Serve, tmp_path: Path
) -> None:
    files = [tmp_path / "runs", tmp_path / "waits"]
    with (
        serve(worker_concurrency=1, queue_size=1) as service,
        ThreadPoolExecutor(2) as threads,
    ):
        key = service.new_key("1")
        calls: list[Future[httpx.Response]] = []
        for file, comes in zip(files, (_runs, _waits), strict=True):
            calls.append(threads.submit(service.post, key, **body(encoded(), f"wait_for={file}")))
            until(partial(comes, service, file))
        with sending(service, key) as connection:
            started = time.monotonic()
            assert status_of(connection) == (429, "Server is busy")
            assert time.monotonic() - started < 15
        for file in files:
            file.touch()
        assert [call.result().status_code for call in calls] == [200, 200]
        assert service.credits_of(key) == 0.98


def test_a_call_whose_body_is_on_its_way_holds_a_place_until_it_goes(serve: Serve) -> None:
    with serve(worker_concurrency=1, queue_size=1) as service:
        key = service.new_key("1")
        with sending(service, key), sending(service, key) as other:
            wait_until_reserved(service, 2)
            assert_error(service.post(key, **body(encoded())), 429, "Server is busy")
            other.close()
            wait_until_reserved(service, 1)
            assert service.post(key, **body(encoded())).status_code == 200


def _runs(_service: Service, file: Path) -> bool:
    return begun(file)


def _waits(service: Service, _file: Path) -> bool:
    return service.engine._scheduler.waiting("detail") == 1


def wait_until_reserved(service: Service, places: int) -> None:
    until(lambda: len(service.engine._reserved) == places)


@pytest.mark.parametrize("path", ["/v1/face-detailer", "/v1/face-detailer/detect"])
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x"])
@pytest.mark.slow
def test_a_body_that_does_not_arrive_loses_its_place(
    serve: Serve, path: str, content_type: str
) -> None:
    with serve(worker_concurrency=1, queue_size=1, body_timeout_s=2) as service:
        key = service.new_key("1")

        def slow() -> Iterator[bytes]:
            yield b"--x\r\n"
            time.sleep(6)
            yield b"more"

        headers = {"x-api-key": key, "content-type": content_type}
        reply = service.client.post(path, content=slow(), headers=headers)
        assert_error(reply, 400, "The body did not arrive within 2 s")
        assert service.credits_of(key) == 1.0
        assert service.post(key, **body(encoded())).status_code == 200


def test_a_large_body_that_is_refused_unread_still_lets_its_sender_read_the_answer(
    serve: Serve,
) -> None:
    with serve(worker_concurrency=1, queue_size=1) as service:
        key = service.new_key("1")
        with sending(service, key), sending(service, key):
            wait_until_reserved(service, 2)
            reply = service.post(key, **body(bytes(20_000_000)))
            assert_error(reply, 429, "Server is busy")
            assert int(reply.headers["retry-after"]) >= 1


def test_a_wrong_body_gives_its_place_back(serve: Serve) -> None:
    with serve(worker_concurrency=1, queue_size=1) as service:
        key = service.new_key("1")
        for wrong in ({"denoise": 2}, {"prompt": None}, {"image": "!"}, {"image": "http://[::1"}):
            for _ in range(3):
                assert service.post(key, **body(encoded()) | wrong).status_code == 400
        assert service.post(key, **body(encoded())).status_code == 200


def gif_with_a_frame_beyond_its_screen(side: int) -> bytes:
    """An 8 × 8 screen, and a frame of `side` × `side` of which hardly anything is there."""
    file = bytearray(encoded(8, 8, "gif"))
    frame = file.index(b",\0\0\0\0")
    file[frame + 5 : frame + 9] = side.to_bytes(2, "little") * 2
    return bytes(file)


@pytest.mark.parametrize(
    ("image", "status", "text"),
    [
        (encoded(64, 64, "jpeg")[:-300], 400, BROKEN),
        (encoded()[:60], 400, BROKEN),
        (encoded(64, 64, "png").replace(b"IDAT", b"IDAT\0\0"), 400, BROKEN),
        (gif_with_a_frame_beyond_its_screen(100), 400, BROKEN),
        (
            gif_with_a_frame_beyond_its_screen(9000),
            413,
            "Invalid image: the picture has 9000 \\u00d7 9000 pixels,"
            " at most 8192 pixels a side are allowed",
        ),
    ],
    ids=["cut-jpeg", "cut-png", "torn-png", "gif-frame", "large-gif-frame"],
)
def test_a_picture_whose_header_is_fine_is_refused_by_the_worker_and_costs_nothing(
    broken_ones: Service, image: bytes, status: int, text: str
) -> None:
    key = broken_ones.new_key("1")
    assert_error(broken_ones.post(key, **body(image)), status, text)
    reply = broken_ones.client.post(
        "/v1/face-detailer/detect", files={"image": image}, headers={"x-api-key": key}
    )
    assert_error(reply, status, text)
    assert broken_ones.credits_of(key) == 1.0


@pytest.fixture(scope="module")
def broken_ones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), devices=("cpu",), profile="tiny")
    pool = WorkerPool(settings, load=loader(worker_loads.inverter))
    with running(settings, pool) as service:
        until_ready(service.client)
        yield service


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 9), (30, 20)])
def test_small_and_turned_pictures_are_answered(
    broken_ones: Service, size_wh: tuple[int, int]
) -> None:
    width, height = size_wh
    upright = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    key = broken_ones.new_key()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for image, expected in (
        (png(upright), upright),
        (png(np.ascontiguousarray(np.rot90(upright)), exif=exif), upright),
    ):
        reply = broken_ones.post(key, **body(image, base64=False, seed=0))
        np.testing.assert_array_equal(pixels(reply.content), 255 - expected)
        size = {"height": height, "samples": 1, "width": width}
        assert reply.headers["x-output-metadata"] == repr(size)


def test_hanging_up_gives_back_the_place_and_the_credits(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "x"
    with serve(worker_concurrency=1, queue_size=1) as service:
        key = service.new_key("0.01")
        with hanging_up(service.url, "/v1/face-detailer", key, body(encoded(), f"wait_for={file}")):
            until(lambda: begun(file))
        until(lambda: stopped(file))
        # The credits come back beside it.
        until(lambda: service.post(key, **body(encoded())).status_code == 200)
        assert service.credits_of(key) == 0.0
