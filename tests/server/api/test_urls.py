"""URLs that lead nowhere, in `image` and `webhook_url`: refused at once, on v1 and v2."""

import base64
import json

import pytest
from contract_calls import GOOD, assert_error
from http_service import Service, encoded

IMPOSSIBLE = [
    "http://",
    "http:///",
    "http:///a.png",
    "http://[",
    "http://[::1",
    "http://[zz]/",
    "http://a b/",
    "http://a%20b/",
    "http://%zz/",
    "http://a.example:65536/",
    "http://93.184.216.34:99999/a.jpg",
    "http://a.example:0/",
    "http://a.example:-1/",
    "http://a.example:b/",
    "http://xn--/",
    "http://xn--a/",
    "http://xn--zzzzzzzz99999.example/",
    "http://a..example/",
    "http://.",
    f"http://{'a' * 64}.example/",
    f"http://{'a.' * 130}example/",
    "http://999.1.1.1/",
    "http://1.2.3.4.5/",
    "http://a|b/",
    "http://a\\b/",
    "http://user:secret@/",
    "http://?a",
    "http://#a",
    "http://a.example/\x00",
    "http://a\n.example/",
    "http://a.example/\t.png",
    "http://a.example/\x7f",
    "http://\u200b/",
    "http://\ud800/",
    "http://a.example/\ud800",
    f"http://a.example/{'a' * 70_000}",
]
INSIDE = [
    "http://127.0.0.1/",
    "http://10.1.2.3:8080/a.png",
    "http://[::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0/",
    "http://169.254.169.254/latest/meta-data/",
    "http://localhost:9999/",
    "http://LocalHost./",
    "http://faces.localhost/",
]


@pytest.mark.parametrize("path", ["/v1/face-detailer", "/v2/face-detailer"])
@pytest.mark.parametrize("url", IMPOSSIBLE, ids=lambda url: ascii(url[:40]))
def test_an_impossible_url_is_no_picture(service: Service, path: str, url: str) -> None:
    key = service.new_key("1")
    body = GOOD | {"image": url}
    reply = service.client.post(path, content=json.dumps(body), headers=_json_headers(key))
    assert_error(reply, 400, "Invalid image: its URL cannot be understood")
    assert service.credits_of(key) == 1


@pytest.mark.parametrize("path", ["/v1/face-detailer", "/v2/face-detailer"])
@pytest.mark.parametrize("url", INSIDE)
def test_a_private_address_is_refused_at_once(service: Service, path: str, url: str) -> None:
    key = service.new_key("1")
    reply = service.client.post(path, json=GOOD | {"image": url}, headers={"x-api-key": key})
    assert_error(reply, 400, "Invalid image: its URL does not lead to a public address")


# In a text, half a surrogate pair becomes a question mark.
@pytest.mark.parametrize("url", IMPOSSIBLE[:-2] + IMPOSSIBLE[-1:], ids=lambda url: ascii(url[:40]))
def test_an_impossible_webhook_is_refused(service: Service, url: str) -> None:
    key = service.new_key("1")
    body = GOOD | {"webhook_url": url}
    reply = service.client.post(
        "/v2/face-detailer", content=json.dumps(body), headers=_json_headers(key)
    )
    too_long = "webhook_url should have at most 65,536 characters"
    no_url = "webhook_url should be an http:// or https:// URL"
    assert_error(reply, 400, too_long if len(url) > 65_536 else no_url)
    assert service.credits_of(key) == 1


@pytest.mark.parametrize("url", INSIDE)
def test_a_webhook_inside_is_refused(service: Service, url: str) -> None:
    reply = service.client.post(
        "/v2/face-detailer",
        json=GOOD | {"webhook_url": url},
        headers={"x-api-key": service.new_key()},
    )
    assert_error(reply, 400, "webhook_url does not lead to a public address")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@hooks.example:8443/a?b=c#d",
        "HTTPS://HOOKS.EXAMPLE",
        "http://faß.example/a b",
        "http://under_score.example/",
        "http://hooks.example./",
    ],
)
def test_an_odd_but_possible_url_is_taken(service: Service, url: str) -> None:
    image = base64.b64encode(encoded()).decode()
    for body in ({"image": url}, {"image": image, "webhook_url": url}):
        reply = service.client.post(
            "/v2/face-detailer", json=GOOD | body, headers={"x-api-key": service.new_key()}
        )
        assert reply.status_code == 200, reply.text


def _json_headers(key: str) -> dict[str, str]:
    return {"x-api-key": key, "content-type": "application/json"}
