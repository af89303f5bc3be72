"""Large bodies, well-meant and hostile: what they cost the server, and everybody else."""

import base64
import io
import random
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import PIL.Image
import pytest
from contract_calls import GOOD, assert_error
from measured_server import MIB, MeasuredServer, measured

SIZE = 24 * 10**6
NO_FILE = (
    "Invalid image: the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, GIF or BMP "
    "picture"
)
NO_PICTURE = "Invalid image: it is neither an http(s) URL nor base64 nor a data URI"
MUCH_BESIDE = "The body has more than 1 MiB beside its pictures"
BEGIN = b'{"prompt": "", "denoise": 0.4, "image": "QUJD", "more": '


def bitmap() -> bytes:
    file, side = io.BytesIO(), 2400
    pixels = random.Random(1).randbytes(side * side * 3)
    PIL.Image.frombytes("RGB", (side, side), pixels).save(file, "bmp")
    return file.getvalue()


BITMAP = bitmap()
TEXT = base64.b64encode(BITMAP)


def with_image(text: bytes) -> bytes:
    return b'{"prompt": "", "denoise": 0.4, "image": "%b"}' % text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredServer]:
    with measured(tmp_path_factory.mktemp("data")) as server:
        # What is imported with the first picture.
        assert server.client.post("/v1/face-detailer", json=GOOD).status_code == 200
        yield server


def cost(server: MeasuredServer, body: bytes, kind: str = "application/json") -> httpx.Response:
    pieces = (body[begin : begin + 2**18] for begin in range(0, len(body), 2**18))
    headers = {"content-type": kind, "content-length": str(len(body))}
    with server.watched() as seen:
        reply = server.client.post("/v1/face-detailer", content=pieces, headers=headers)
    assert seen.grown_mib * MIB < max(3 * len(body), 16 * MIB)
    assert seen.p99_s < 5
    return reply


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace(b"/", rb"\/"),
        rb"\r\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
        TEXT.replace(b"+", b" "),
        b"data:image/bmp;base64," + TEXT,
        b"data:image/bmp;base64," + TEXT.replace(b"+", b"%2B"),
    ],
    ids=["bare", "php", "lines", "blanks", "uri", "percent"],
)
def test_a_large_picture_costs_little_memory_and_holds_nobody_up(
    server: MeasuredServer, text: bytes
) -> None:
    reply = cost(server, with_image(text))
    assert base64.b64decode(reply.json()["image"]) == BITMAP[:1000]


@pytest.mark.parametrize("head", ['name="image"', 'name="image"; filename="a"'])
@pytest.mark.parametrize("payload", [BITMAP, TEXT], ids=["file", "base64"])
def test_so_does_a_large_part_of_a_form(server: MeasuredServer, head: str, payload: bytes) -> None:
    begin = b'--x\r\nContent-Disposition: form-data; name="denoise"\r\n\r\n0\r\n'
    begin += b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\r\n'
    begin += f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
    body = begin + payload + b"\r\n--x--\r\n"
    reply = cost(server, body, "multipart/form-data; boundary=x")
    assert base64.b64decode(reply.json()["image"]) == BITMAP[:1000]


@pytest.mark.parametrize("text", [b"x", b"\r\n", b"\r\n--", b"\r\n--xy"])
def test_a_form_that_never_begins_is_refused(server: MeasuredServer, text: bytes) -> None:
    reply = cost(server, filled(b"", text, b""), "multipart/form-data; boundary=xyz")
    assert_error(reply, 400, "The body is not valid multipart/form-data")


def test_large_base64_in_utf_16_costs_little_memory_too(server: MeasuredServer) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n'
    body = head % (b"denoise", b"") + b"0\r\n" + head % (b"prompt", b"") + b"\r\n"
    body += head % (b"image", b'; filename="a"') + TEXT.decode().encode("utf-16") + b"\r\n--x--\r\n"
    reply = cost(server, body, "multipart/form-data; boundary=x")
    assert base64.b64decode(reply.json()["image"]) == BITMAP[:1000]


def as_image(begin: bytes, again: bytes, end: bytes = b"") -> bytes:
    return with_image(filled(begin, again, end))


def beside(begin: bytes, again: bytes, end: bytes) -> bytes:
    return filled(BEGIN + begin, again, end + b"}")


def filled(begin: bytes, again: bytes, end: bytes) -> bytes:
    return begin + again * (SIZE // len(again)) + end


# How each is made: a few hundred megabytes in all, so one at a time.
HOSTILE = {
    "percent": (partial(as_image, b"data:image/bmp,", b"%42"), NO_FILE),
    "percent-base64": (partial(as_image, b"data:image/bmp;base64,", b"%51"), NO_FILE),
    "blanks": (partial(as_image, b"QUJD", b" ", b"QUJD"), NO_FILE),
    "pairs": (partial(as_image, b"", b"QQ "), NO_FILE),
    "words": (partial(as_image, b"", b"QUJD "), NO_FILE),
    "halves": (partial(as_image, b"", rb"\ud83d"), NO_PICTURE),
    "numbers": (partial(beside, b"[", b"1,", b"1]"), MUCH_BESIDE),
    "lists": (partial(beside, b"[", b"[],", b"1]"), MUCH_BESIDE),
    "texts": (partial(beside, b'["', b'","', b'"]'), MUCH_BESIDE),
    "blank-json": (partial(beside, b"", b" ", b"1"), MUCH_BESIDE),
}


@pytest.mark.parametrize(("body", "text"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_costs_little_memory_and_holds_nobody_up(
    server: MeasuredServer, body: Callable[[], bytes], text: str
) -> None:
    assert_error(cost(server, body()), 400, text)


@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", "unicode_escape", "utf-7"])
def test_another_charset_than_utf_8_is_refused(server: MeasuredServer, charset: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="more"\r\n\r\n%b\r\n--x--\r\n'
    for payload in (b"a-" + b"zz" * 200_000, b"a." + b"zz." * 130_000):
        reply = cost(server, part % payload, f"multipart/form-data; charset={charset}; boundary=x")
        assert_error(reply, 400, "The charset of multipart/form-data should be UTF-8")


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "us-ascii"])
def test_utf_8_may_be_named(server: MeasuredServer, charset: str) -> None:
    fields = {"denoise": "0", "prompt": "ü", "image": TEXT.decode()}
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    body = "".join([*parts, "--x--\r\n"]).encode()
    reply = cost(server, body, f"multipart/form-data; charset={charset}; boundary=x")
    assert reply.status_code == 200


@pytest.mark.parametrize("image", [rb"data:image/png,\ud800", rb"\ud800", rb"data:;base64,\udfff"])
def test_half_a_surrogate_pair_in_a_picture_is_400(server: MeasuredServer, image: bytes) -> None:
    kind = {"content-type": "application/json"}
    reply = server.client.post("/v1/face-detailer", content=with_image(image), headers=kind)
    assert_error(reply, 400, NO_FILE if image.startswith(b"data:image") else NO_PICTURE)
