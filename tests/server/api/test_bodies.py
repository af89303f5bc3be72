"""Bodies as clients really send them: compressed, odd forms, base64 that suffered on its way."""

import base64
import contextlib
import gzip
import http.client
import io
import json
import zlib

import httpx
import numpy as np
import PIL.Image
import pytest
from contract_calls import GOOD, assert_error
from http_service import Service, encoded

PATH = "/v1/face-detailer"


def noisy() -> bytes:
    """A picture whose base64 has every character of the alphabet."""
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (24, 24, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


NOISE = noisy()
TEXT = base64.b64encode(NOISE).decode()


def post(service: Service, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"x-api-key": service.new_key("1"), "content-type": "application/json"} | named
    return service.client.post(PATH, content=body, headers=sent)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


BODY = json.dumps(GOOD).encode()


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:50]) + gzip.compress(BODY[50:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
        ("identity, identity", BODY),
        ("gzip, identity", gzip.compress(BODY)),
        ("Identity,gzip", gzip.compress(BODY)),
        ("identity, deflate", zlib.compress(BODY)),
    ],
    ids=[
        *("gzip", "upper", "x-gzip", "members", "zlib", "raw", "identity", "empty"),
        *("identities", "gzip-identity", "identity-gzip", "identity-deflate"),
    ],
)
def test_a_compressed_body_is_inflated(service: Service, name: str, packed: bytes) -> None:
    assert post(service, packed, content_encoding=name).status_code == 200


def test_a_compressed_form_is_inflated(service: Service) -> None:
    request = httpx.Request(
        "POST", "http://a/", data={"prompt": "", "denoise": "0"}, files={"image": NOISE}
    )
    kind = request.headers["content-type"]
    packed = gzip.compress(request.read())
    reply = post(service, packed, content_encoding="gzip", content_type=kind)
    assert reply.status_code == 200
    assert service.engine.jobs[-1].picture == NOISE


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, br", "gzip, gzip", "compress"])
def test_another_encoding_is_415(service: Service, name: str) -> None:
    reply = post(service, BODY, content_encoding=name)
    assert_error(reply, 415, "Content-Encoding should be gzip or deflate")
    assert reply.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "packed",
    [b"", BODY, gzip.compress(BODY)[:-12], gzip.compress(BODY)[:40], gzip.compress(BODY) + b"junk"],
    ids=["empty", "plain", "cut", "short", "junk"],
)
def test_what_cannot_be_inflated_is_400(service: Service, packed: bytes) -> None:
    reply = post(service, packed, content_encoding="gzip")
    assert_error(reply, 400, "The body is not compressed as Content-Encoding says")


@pytest.mark.parametrize("name", ["gzip", pytest.param("deflate", marks=pytest.mark.slow)])
def test_a_bomb_is_refused_when_it_passes_the_limit(serve, name: str) -> None:
    with serve(max_body_bytes=2**20) as service:
        packer = zlib.compressobj(9, wbits=31 if name == "gzip" else 15)
        zeros = b" " * 2**20
        bomb = b"".join(packer.compress(zeros) for _ in range(300)) + packer.flush()
        assert len(bomb) < 2**20
        reply = post(service, bomb, content_encoding=name)
        assert_error(reply, 413, "Invalid image: the request is larger than 1 MiB")
        assert post(service, gzip.compress(BODY), content_encoding="gzip").status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        *("samples", "num_inference_steps", "guidance_scale", "seed", "image_format", "base64"),
        *(
            "image_quality",
            "upscale",
            "passes",
            "keep_healthy",
            "keep_grain",
            "max_faces",
            "min_face_px",
        ),
        *("face_order", "detection_threshold"),
    ],
)
@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_optional_field_is_absent(service: Service, name: str, blank: str) -> None:
    plain = service.post(service.new_key(), **GOOD)
    reply = service.post(service.new_key(), **GOOD | {name: blank})
    assert (reply.status_code, reply.content) == (200, plain.content), reply.text


def test_a_blank_required_field_is_missing(service: Service) -> None:
    for name, text in [
        ("denoise", "Denoise is Mandatory and must be a number"),
        ("image", "Image is Mandatory and must be provided"),
    ]:
        assert_error(service.post(service.new_key(), **GOOD | {name: " "}), 400, text)
    key = service.new_key()
    assert service.post(key, **GOOD | {"prompt": "", "negative_prompt": ""}).status_code == 200


def form(service: Service, head: str, payload: bytes, **fields: str) -> httpx.Response:
    """A form whose `image` part has this head."""
    parts = {"prompt": "x", "denoise": "0", "image_format": "png"} | fields
    lines = [
        f'--XbX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in parts.items()
    ]
    lines.append(f"--XbX\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + payload)
    body = b"".join(lines) + b"\r\n--XbX--\r\n"
    return post(service, body, content_type='multipart/form-data; boundary="XbX"')


def dark(image_format: str) -> bytes:
    """A picture all of whose bytes may pass for text."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (16, 16)).save(file, image_format)
    return file.getvalue()


@pytest.mark.parametrize(
    "payload",
    [NOISE, dark("bmp"), dark("tiff"), dark("gif"), encoded(16, 16, "jpeg"), encoded(9, 9, "webp")],
    ids=["png", "bmp", "tiff", "gif", "jpeg", "webp"],
)
@pytest.mark.parametrize(
    "head",
    [
        'name="image"',
        'name="image"\r\nContent-Type: image/png',
        'name="image"; filename=""',
        "name=\"image\"; filename*=UTF-8''b%C3%AFld.png",
        "name=image\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary",
    ],
    ids=["bare", "typed", "empty-name", "extended-name", "octets"],
)
def test_a_picture_in_a_form_needs_no_file_name(
    service: Service, head: str, payload: bytes
) -> None:
    reply = form(service, head, payload)
    assert reply.status_code == 200, reply.text
    assert service.engine.jobs[-1].picture == payload


def test_texts_of_a_form_keep_their_letters(service: Service) -> None:
    form(service, 'name="image"', NOISE, prompt="größer, \u8138, \U0001f600")
    assert service.engine.jobs[-1].options.recipe.prompt == "größer, \u8138, \U0001f600"


@pytest.mark.parametrize("head", ['name="image"; filename="a.txt"', 'name="image"'])
@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        "\r\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
        f"\ufeff{TEXT}\n",
        f"\u200b\u00a0{TEXT}\u00a0",
    ],
    ids=["bare", "uri", "lines", "bom", "marks"],
)
def test_base64_in_a_file_part_is_a_picture(service: Service, head: str, text: str) -> None:
    reply = form(service, head, text.encode())
    assert reply.status_code == 200, reply.text
    assert service.engine.jobs[-1].picture == NOISE


def wrapped(width: int, by: str) -> str:
    return by.join(TEXT[i : i + width] for i in range(0, len(TEXT), width))


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("+", " "),
        f"data:image/png;base64,{TEXT.replace('+', ' ')}",
        TEXT.replace("+", " ").rstrip("="),
        wrapped(76, "\n").replace("+", " "),
        wrapped(76, " "),
        wrapped(64, "\n    "),
        f"\ufeff{TEXT}",
        f"\u200b{TEXT}\u200b",
        f"\u00a0{TEXT}\u00a0",
        f"\u2060\u200e{TEXT}\u2028\u3000",
        f"\u200bdata:image/png;base64,\u00a0{TEXT}",
        f"data:image/png; base64,{TEXT}",
        f"data:image/png;base64 ,{TEXT}",
        f"data:image/png; Base64 ,{TEXT}",
        f"data:;\tBASE64,{TEXT}",
        f"data: image/png ;charset=utf-8;  base64  ,{TEXT}",
        f"\n\r\n {TEXT}",
        f"\ufeff\n{TEXT}\ufeff",
        f"\n\ufeff data:image/png;base64,{TEXT}",
        f"data:image/png;base64,\ufeff\n{TEXT}",
        TEXT.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    ],
    ids=[
        *("plus", "plus-uri", "plus-unpadded", "plus-lines", "blank-wrapped", "indented"),
        *("bom", "zero-width", "no-break", "marks", "uri-marks"),
        *("uri-blank", "uri-behind", "uri-case", "uri-tab", "uri-charset"),
        *("line", "bom-line", "bom-uri", "bom-inside", "percent"),
    ],
)
def test_base64_that_suffered_on_its_way_is_read(service: Service, text: str) -> None:
    assert "+" in TEXT
    assert "/" in TEXT
    reply = service.post(service.new_key(), **GOOD | {"image": text})
    assert reply.status_code == 200, reply.text
    assert service.engine.jobs[-1].picture == NOISE


def test_what_is_no_picture_either_way_gets_the_old_sentence(service: Service) -> None:
    no_text = "Invalid image: it is neither an http(s) URL nor base64 nor a data URI"
    no_file = (
        "Invalid image: the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, "
        "GIF or BMP picture"
    )
    assert_error(service.post(service.new_key(), **GOOD | {"image": "a b c!"}), 400, no_text)
    assert_error(service.post(service.new_key(), **GOOD | {"image": "QUJD QUJD"}), 400, no_file)
    assert_error(form(service, 'name="image"; filename="a"', b"QUJDQUJD"), 400, no_file)
    assert_error(form(service, 'name="image"; filename="a"', b"no base64!"), 400, no_file)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://{own}/v1/face-detailer", "{own}"),
        ("HTTP://{own}/v1/face-detailer?a=b", "{own}"),
        ("http://faces.example/v2/face-detailer", "faces.example"),
        ("https://faces.example:8443/v2/face-detailer", "faces.example:8443"),
    ],
)
def test_the_target_may_be_a_whole_url(service: Service, target: str, host: str) -> None:
    own = httpx.URL(service.url).netloc.decode()
    connection = http.client.HTTPConnection(own, timeout=30)
    headers = {"x-api-key": service.new_key(), "content-type": "application/json"}
    connection.request("POST", target.format(own=own), BODY, headers)
    reply = connection.getresponse()
    body = json.loads(reply.read())
    connection.close()
    assert reply.status == 200
    if "v2" in target:
        assert body["response_url"].startswith(f"http://{host}/v2/requests/")


def test_a_whole_url_without_a_path_is_the_root(service: Service) -> None:
    own = httpx.URL(service.url).netloc.decode()
    connection = http.client.HTTPConnection(own, timeout=30)
    connection.request("GET", f"http://{own}", headers={"x-api-key": service.new_key()})
    with contextlib.closing(connection):
        reply = connection.getresponse()
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/html")
