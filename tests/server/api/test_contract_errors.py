"""Each row of the error table, sent over HTTP."""

import base64
import struct
import zlib

import pytest
from contract_calls import GOOD, PICTURE, assert_error
from http_service import encoded

NOT_A_NUMBER = "Inputs which are supposed to be numbers are in alphabet"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"prompt": None}, "Prompt is Mandatory and must be string"),
        ({"prompt": 5}, "Prompt is Mandatory and must be string"),
        ({"image": None}, "Image is Mandatory and must be provided"),
        ({"image": ""}, "Image is Mandatory and must be provided"),
        ({"image": {"url": "x"}}, "Image is Mandatory and must be provided"),
        ({"denoise": None}, "Denoise is Mandatory and must be a number"),
        ({"denoise": "much"}, "Denoise is Mandatory and must be a number"),
        ({"denoise": 1.01}, "denoise should be between 0 and 1"),
        ({"denoise": "-0.1"}, "denoise should be between 0 and 1"),
        ({"samples": "two"}, NOT_A_NUMBER),
        ({"samples": True}, NOT_A_NUMBER),
        ({"seed": "12a"}, NOT_A_NUMBER),
        ({"seed": [1]}, NOT_A_NUMBER),
        ({"guidance_scale": "NaN"}, NOT_A_NUMBER),
        ({"guidance_scale": "inf"}, NOT_A_NUMBER),
        ({"samples": 0}, "samples should be between 1 and 4"),
        ({"samples": "5"}, "samples should be between 1 and 4"),
        ({"samples": 1.5}, "samples should be a whole number"),
        ({"num_inference_steps": 14}, "num_inference_steps should be between 15 and 75"),
        ({"num_inference_steps": "25.5"}, "num_inference_steps should be a whole number"),
        ({"guidance_scale": 10**400}, "guidance_scale should be between 5 and 10"),
        ({"image_quality": 101}, "image_quality should be between 10 and 100"),
        (
            {"image_format": "gif"},
            "Invalid image_format. Allowed values are 'jpeg', 'png', 'webp'.",
        ),
        ({"image_format": 3}, "Invalid image_format. Allowed values are 'jpeg', 'png', 'webp'."),
        ({"negative_prompt": 1}, "negative_prompt must be string"),
        ({"base64": "maybe"}, "base64 should be true or false"),
        ({"upscale": 3}, "Invalid upscale. Allowed values are '1', '2', '4'."),
        ({"passes": "one"}, "Invalid passes. Allowed values are 'both', 'detail', 'auto'."),
        ({"max_faces": -1}, "max_faces should be between 0 and 20"),
        ({"min_face_px": -1}, "min_face_px should be between 0 and 10000"),
        (
            {"face_order": "down"},
            "Invalid face_order. Allowed values are 'size', 'left-right', 'top-bottom', 'score'.",
        ),
        ({"detection_threshold": 2}, "detection_threshold should be between 0 and 1"),
    ],
)
def test_a_wrong_parameter_is_400(service, fields, text):
    key = service.new_key("1")
    reply = service.post(key, **GOOD | fields)
    assert_error(reply, 400, text)
    assert reply.headers["x-remaining-credits"] == "1.0"
    assert service.engine.jobs == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "The body is not valid JSON"),
        (b'{"prompt": ', "The body is not valid JSON"),
        (b"\xff\xfe\x00", "The body is not valid JSON"),
        (b"[" * 100_000, "The body is not valid JSON"),
        (b"[1, 2]", "The body must be a JSON object"),
        (b"null", "The body must be a JSON object"),
    ],
)
def test_a_body_that_is_no_json_object_is_400(service, body, text):
    headers = {"x-api-key": service.new_key(), "content-type": "application/json; charset=utf-8"}
    assert_error(service.client.post("/v1/face-detailer", content=body, headers=headers), 400, text)


def test_json_literals_for_nan_are_400(service):
    headers = {"x-api-key": service.new_key(), "content-type": "application/json"}
    body = b'{"image": "aaaa", "prompt": "", "denoise": 0.5, "seed": NaN}'
    reply = service.client.post("/v1/face-detailer", content=body, headers=headers)
    assert_error(reply, 400, NOT_A_NUMBER)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_broken_multipart_is_400(service, content_type):
    headers = {"x-api-key": service.new_key(), "content-type": content_type}
    reply = service.client.post("/v1/face-detailer", content=b"--y\r\n", headers=headers)
    assert_error(reply, 400, "The body is not valid multipart/form-data")


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header tells any size, with hardly any pixels behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


BROKEN = "Invalid image: the file is broken or incomplete and cannot be read"
UNKNOWN = (
    "Invalid image: the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, "
    "GIF or BMP picture"
)


@pytest.mark.parametrize(
    ("image", "status", "text"),
    [
        (encoded(64, 64, "jpeg")[:200], 400, BROKEN),
        (PICTURE[:30], 400, BROKEN),
        (b"", 400, "Invalid image: the file is empty"),
        (b"hello, this is no picture", 400, UNKNOWN),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, UNKNOWN),
        (
            png_of(30_000, 30_000),
            413,
            "Invalid image: the picture has 30000 \\u00d7 30000 pixels,"
            " at most 8192 pixels a side are allowed",
        ),
        (
            png_of(8000, 8000),
            413,
            "Invalid image: the picture has 8000 \\u00d7 8000 pixels,"
            " at most 50000000 pixels are allowed",
        ),
    ],
    ids=["cut-jpeg", "cut-png", "empty", "text", "svg", "long-sides", "bomb"],
)
def test_a_bad_picture_is_refused_at_once_and_the_next_call_works(service, image, status, text):
    key = service.new_key("1")
    uri = "data:image/png;base64," + base64.b64encode(image).decode()
    assert_error(service.post(key, **GOOD | {"image": uri}), status, text)
    assert_error(
        service.client.post(
            "/v1/face-detailer",
            data={"prompt": "", "denoise": "0.4"},
            files={"image": ("face.png", image)},
            headers={"x-api-key": key},
        ),
        status,
        text,
    )
    assert service.credits_of(key) == 1.0
    assert service.engine.jobs == []
    assert service.post(key, **GOOD).status_code == 200


@pytest.mark.parametrize("image", ["not base64!", "äöü", "data:;base64,###", "abcde"])
def test_wrong_base64_is_400(service, image):
    text = "Invalid image: it is neither an http(s) URL nor base64 nor a data URI"
    assert_error(service.post(service.new_key(), **GOOD | {"image": image}), 400, text)


@pytest.mark.parametrize("image", ["/etc/hostname", "file.png", "../picture.jpg"])
def test_a_path_is_no_picture(service, image):
    reply = service.post(service.new_key(), **GOOD | {"image": image})
    assert reply.status_code == 400
    assert "Invalid image: " in reply.json()["error"]


@pytest.mark.parametrize("image", ["file:///etc/passwd", "ftp://example.org/a.png", "gopher://x/"])
def test_another_scheme_is_400(service, image):
    text = "Invalid image: its URL must start with http:// or https://"
    assert_error(service.post(service.new_key(), **GOOD | {"image": image}), 400, text)


def test_a_picture_of_one_pixel_is_a_picture(service):
    image = base64.b64encode(encoded(1, 1)).decode()
    assert service.post(service.new_key(), **GOOD | {"image": image}).status_code == 200
