"""Forms as clients really write them."""

import base64

import httpx
import pytest
from contract_calls import assert_error
from http_service import Service, encoded

NOISE = encoded(16, 24, "png")
TEXT = base64.b64encode(NOISE).decode()
FILE = 'name="image"; filename="a.png"'
FIELDS = [('name="prompt"', b"x"), ('name="denoise"', b"0"), ('name="image_format"', b"png")]


def parts_of(*parts: tuple[str, bytes]) -> bytes:
    lines = [
        f"--XbX\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + payload + b"\r\n"
        for head, payload in parts
    ]
    return b"".join([*lines, b"--XbX--\r\n"])


def post(service: Service, body: bytes, step: int = 0) -> httpx.Response:
    """Sent in pieces of `step` bytes, or in one."""
    step = step or len(body)
    return service.client.post(
        "/v1/face-detailer",
        content=(body[at : at + step] for at in range(0, len(body), step)),
        headers={
            "x-api-key": service.new_key("1"),
            "content-type": 'multipart/form-data; boundary="XbX"',
        },
    )


@pytest.mark.parametrize(
    "preamble",
    [
        b"This is a multi-part message in MIME format.\r\n\r\n",
        b"one\r\ntwo\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"not --XbX\r\n",
        b"--Xb\r\n-\r\n--\r\n",
        b"x" * 60_000 + b"\r\n",
    ],
    ids=["mime", "lines", "break", "breaks", "newline", "within", "alike", "long"],
)
@pytest.mark.parametrize("step", [0, 1, 7])
def test_what_stands_before_the_first_part_is_overlooked(
    service: Service, preamble: bytes, step: int
) -> None:
    if step == 1:
        preamble = preamble[-100:]
    body = preamble + parts_of((FILE, NOISE), *FIELDS)
    reply = post(service, body, step)
    assert reply.status_code == 200, reply.text
    assert service.engine.jobs[-1].picture == NOISE


def test_what_stands_behind_the_last_part_is_overlooked(service: Service) -> None:
    reply = post(service, parts_of((FILE, NOISE), *FIELDS) + b"epilogue\r\n--XbX\r\n")
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "body",
    [
        b"no boundary at all",
        b"line\r\n" * 20_000,
        b"x" * 70_000 + b"\r\n" + parts_of((FILE, NOISE), *FIELDS),
        b"x" + parts_of((FILE, NOISE)).partition(b"\r\n--XbX--")[0],
    ],
    ids=["none", "lines", "too-far", "not-at-a-line"],
)
def test_a_body_without_a_first_part_is_no_form(service: Service, body: bytes) -> None:
    assert_error(post(service, body), 400, "The body is not valid multipart/form-data")


@pytest.mark.parametrize(
    "blank",
    [('name="image"', b""), ('name="image"', b" \r\n"), ('name="image"; filename=""', b"")],
    ids=["text", "spaces", "file"],
)
@pytest.mark.parametrize("payload", [(FILE, NOISE), ('name="image"', TEXT.encode())])
def test_a_blank_part_replaces_no_other(
    service: Service, blank: tuple[str, bytes], payload: tuple[str, bytes]
) -> None:
    for pair in ((blank, payload), (payload, blank)):
        reply = post(service, parts_of(*pair, *FIELDS))
        assert reply.status_code == 200, reply.text
        assert service.engine.jobs[-1].picture == NOISE


def test_of_two_values_the_last_counts(service: Service) -> None:
    other = encoded(9, 9, "png")
    post(service, parts_of((FILE, other), (FILE, NOISE), *FIELDS))
    assert service.engine.jobs[-1].picture == NOISE


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("head", [FILE, 'name="image"'])
@pytest.mark.parametrize(
    "text",
    [f"{TEXT}\r\n", f"data:image/png;base64,{TEXT}", f"{TEXT[:76]}\r\n{TEXT[76:]}\r\n"],
    ids=["bare", "uri", "lines"],
)
def test_base64_in_utf_16_is_a_picture(
    service: Service, encoding: str, head: str, text: str
) -> None:
    """As Windows PowerShell's `>` writes it."""
    reply = post(service, parts_of((head, f"\ufeff{text}".encode(encoding)), *FIELDS))
    assert reply.status_code == 200, reply.text
    assert service.engine.jobs[-1].picture == NOISE


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"\xfe\xff\0", "\ufeff脸".encode("utf-16-le")])
def test_other_utf_16_is_no_picture(service: Service, payload: bytes) -> None:
    no_file = (
        "Invalid image: the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, "
        "GIF or BMP picture"
    )
    assert_error(post(service, parts_of((FILE, payload), *FIELDS)), 400, no_file)
