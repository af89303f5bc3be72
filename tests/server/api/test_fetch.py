"""Pictures by URL: what is fetched, and what is never connected to."""

import asyncio
import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer

import pytest
from picture_hosts import CERTIFICATE, LIMIT_BYTES, PICTURE, hosting, url_of

from server.api.fetch import Fetcher
from server.errors import BadImage, TooLarge


@pytest.fixture
def host() -> Iterator[ThreadingHTTPServer]:
    with hosting() as host:
        yield host


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names of hosts with what each look-up gives in turn: addresses, split by spaces."""
    table: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host, *args, **kwargs):
        answers = table.get(host, [host])
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [entry for name in found.split() for entry in real(name, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


async def fetch(url: str, may_reach: Callable[[str], bool] = lambda _: True) -> bytes:
    return await Fetcher(max_bytes=LIMIT_BYTES, timeout_s=2, may_reach=may_reach).fetch(url)


def run(work):
    return asyncio.run(work)


def call(service, image: str):
    body = {"image": image, "prompt": "", "denoise": 0.4}
    return service.post(service.new_key(), **body)


def test_names_that_nobody_resolves_hold_up_no_other_work(monkeypatch):
    silent = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: silent.wait(10))

    async def scene() -> float:
        fetching = [asyncio.create_task(fetch(f"http://silent-{i}.example/")) for i in range(40)]
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await asyncio.to_thread(int)
        waited_s = time.monotonic() - started
        for task in fetching:
            task.cancel()
        silent.set()
        await asyncio.gather(*fetching, return_exceptions=True)
        return waited_s

    assert run(scene()) < 5


def test_a_picture_is_fetched_by_its_url(serve, host):
    with serve(fetch_private_addresses=True) as service:
        for image in (
            url_of(host, "/face"),
            "\n" + url_of(host, "/face").upper().replace("FACE", "face"),
        ):
            assert call(service, image).status_code == 200
            assert service.engine.jobs[-1].picture == PICTURE


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"],
)
def test_by_default_the_servers_own_network_is_never_reached(service, host, name):
    reply = call(service, url_of(host, "/face", name))
    assert reply.status_code == 400
    assert reply.json() == {"error": "Invalid image: its URL does not lead to a public address"}
    assert host.seen == []


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/status/404", 400, "its URL answered with status 404"),
        ("/status/500", 400, "its URL answered with status 500"),
        (
            "/page",
            400,
            "the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, GIF or BMP picture",
        ),
        ("/declared", 413, "the file is larger than 50 MiB"),
        ("/times/6", 400, "its URL redirects more than 5 times"),
        ("/to/http://a.example:99999/", 400, "its URL cannot be understood"),
        ("/to/http://xn--a/", 400, "its URL cannot be understood"),
        ("/to/file:///etc/passwd", 400, "its URL must start with http:// or https://"),
    ],
)
def test_what_cannot_be_fetched_is_told(serve, host, path, status, error):
    with serve(fetch_private_addresses=True) as service:
        reply = call(service, url_of(host, path))
    assert (reply.status_code, reply.json()) == (status, {"error": f"Invalid image: {error}"})


def test_an_unknown_host_is_told(service):
    reply = call(service, "http://nowhere.invalid/face.png")
    assert reply.json() == {"error": "Invalid image: the host of its URL is unknown"}


def test_five_redirects_are_followed(host):
    assert run(fetch(url_of(host, "/times/5"))) == PICTURE
    assert len(host.seen) == 6


def test_a_redirect_is_checked_like_the_first_url(host):
    with hosting("127.0.0.2") as inner:
        target = url_of(inner, "/face", "127.0.0.2")
        with pytest.raises(BadImage, match="does not lead to a public address"):
            run(fetch(url_of(host, f"/to/{target}"), lambda address: address == "127.0.0.1"))
        assert inner.seen == []


def test_a_name_that_changes_its_address_is_connected_where_it_was_checked(host, names):
    """DNS rebinding: the check sees one address, a second look-up would give another."""
    with hosting("127.0.0.2") as inner:
        names["face.test"] = ["127.0.0.1", "127.0.0.2"]
        url = f"http://face.test:{host.server_port}/face"
        assert run(fetch(url, lambda address: address == "127.0.0.1")) == PICTURE
        assert inner.seen == []
    assert host.seen == [("/face", f"face.test:{host.server_port}")]


def test_the_next_address_is_tried_where_one_does_not_answer(host, names):
    names["face.test"] = ["127.0.0.3 127.0.0.1"]
    assert run(fetch(f"http://face.test:{host.server_port}/face")) == PICTURE


def test_endless_bodies_are_cut_at_the_limit(host):
    with pytest.raises(TooLarge, match="larger than 200000 bytes"):
        run(fetch(url_of(host, "/endless")))


def test_a_slow_host_is_given_up_in_time(host):
    started = time.monotonic()
    with pytest.raises(BadImage, match="did not answer within 2 s"):
        run(fetch(url_of(host, "/slow")))
    assert time.monotonic() - started < 20


def test_cookies_do_not_live_longer_than_a_picture(host):
    fetcher = Fetcher(max_bytes=LIMIT_BYTES, timeout_s=2, may_reach=lambda _: True)

    async def both():
        await fetcher.fetch(url_of(host, "/face"))
        return await fetcher.fetch(url_of(host, "/cookie"))

    assert run(both()) == b"none"


def test_a_certificate_is_checked_against_the_name(names, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    names["face.test"] = names["other.test"] = ["127.0.0.1"]
    with hosting(tls=True) as host:
        assert run(fetch(f"https://face.test:{host.server_port}/face")) == PICTURE
        with pytest.raises(BadImage, match="cannot be reached"):
            run(fetch(f"https://other.test:{host.server_port}/face"))


def test_data_uris_and_loose_base64_are_read(service):
    text = base64.b64encode(PICTURE).decode()
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76)) + "\n"
    for image in (
        wrapped,
        text.rstrip("="),
        base64.urlsafe_b64encode(PICTURE).decode(),
        f"data:image/png;base64,{text}",
        f"DATA:image/png;charset=utf-8;BASE64,{text}",
        "data:image/png;base64," + text.replace("=", "%3D").replace("+", "%2B"),
        "data:image/png," + "".join(f"%{byte:02X}" for byte in PICTURE),
    ):
        assert call(service, image).status_code == 200, image[:40]
        assert service.engine.jobs[-1].picture == PICTURE
