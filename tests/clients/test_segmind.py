"""PyPI `segmind`, unmodified, pointed at this server."""

import base64
import io
from collections.abc import Callable, Iterator

import PIL.Image
import pytest
from segmind import SegmindClient, SegmindError

NewClient = Callable[[str], SegmindClient]


@pytest.fixture
def new_client(server_url: str) -> Iterator[NewClient]:
    clients = []

    def create(key: str) -> SegmindClient:
        clients.append(SegmindClient(api_key=key, base_url=f"{server_url}/v1"))
        return clients[-1]

    yield create
    for client in clients:
        client._client.close()


def test_run_sync_gives_the_picture(new_client, new_key, picture_base64):
    client = new_client(new_key(3))
    reply = client.run_sync("face-detailer", image=picture_base64, prompt="a face", denoise=0.4)
    with PIL.Image.open(io.BytesIO(base64.b64decode(reply.json()["image"]))) as image:
        assert (image.format, image.size) == ("JPEG", (128, 96))
    assert list(reply.json()) == ["image"]
    assert reply.headers["X-remaining-credits"] == "2.99"
    assert reply.headers["X-output-metadata"] == "{'height': 96, 'samples': 1, 'width': 128}"


def test_run_sync_gives_bytes(new_client, new_key, picture_base64):
    reply = new_client(new_key(1)).run_sync(
        "face-detailer",
        image=picture_base64,
        prompt="",
        denoise=0.4,
        base64=False,
        image_format="png",
        upscale=1,
    )
    assert reply.headers["Content-Type"] == "image/png"
    with PIL.Image.open(io.BytesIO(reply.content)) as image:
        assert image.size == (64, 48)


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({}, 400, "Image is Mandatory and must be provided"),
        (
            {"image": "aGVsbG8=", "prompt": "", "denoise": 2},
            400,
            "denoise should be between 0 and 1",
        ),
    ],
)
def test_errors_arrive_as_the_packages_own(new_client, new_key, fields, status, detail):
    with pytest.raises(SegmindError) as caught:
        new_client(new_key(1)).run_sync("face-detailer", **fields)
    assert (caught.value.status, caught.value.detail) == (status, detail)


def test_a_bad_key_and_no_credits_arrive_too(new_client, new_key):
    with pytest.raises(SegmindError) as caught:
        new_client("SG_0123").run_sync("face-detailer")
    assert (caught.value.status, caught.value.detail) == (
        401,
        "Unauthorized. API key is invalid or may have expired",
    )
    with pytest.raises(SegmindError) as caught:
        new_client(new_key(0)).run_sync("face-detailer")
    assert (caught.value.status, caught.value.detail) == (406, "Not enough credits")
