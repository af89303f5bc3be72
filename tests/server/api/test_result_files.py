"""A result's file by HTTP: whole, in parts, and asked for wrongly."""

import pytest
from contract_calls import assert_error
from http_service import Service
from v2_calls import ended, get, submit


@pytest.fixture(scope="module")
def url(shared_service: Service) -> str:
    key = shared_service.new_key()
    accepted = submit(shared_service, key)
    ended(shared_service, key, accepted)
    return str(get(shared_service, key, accepted.json()["response_url"]).json()["output"])


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=99999999-99999999", "bytes=-0"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_range_beyond_the_file_is_416(
    service: Service, url: str, method: str, asked: str
) -> None:
    size = len(service.client.get(url).content)
    reply = service.client.request(method, url, headers={"range": asked})
    assert reply.status_code == 416
    assert reply.headers["content-range"] == f"bytes */{size}"
    assert reply.headers["content-type"] == "application/json"
    if method == "GET":
        assert_error(reply, 416, "Range lies beyond the end of the file")


@pytest.mark.parametrize("asked", ["bytes=", "bytes=a-b", "bytes=5-2", "bytes=-", "bytes=1"])
def test_a_range_that_cannot_be_understood_is_400(service: Service, url: str, asked: str) -> None:
    reply = service.client.get(url, headers={"range": asked})
    assert_error(reply, 400, "Range should be bytes=FIRST-LAST")


@pytest.mark.parametrize("asked", ["items=0-5", "bytes", "seconds=1-"])
def test_a_range_in_other_units_is_no_range(service: Service, url: str, asked: str) -> None:
    reply = service.client.get(url, headers={"range": asked})
    assert (reply.status_code, reply.content) == (200, service.client.get(url).content)


def test_several_ranges_come_as_parts(service: Service, url: str) -> None:
    whole = service.client.get(url).content
    reply = service.client.get(url, headers={"range": "bytes=0-1,5-8"})
    assert reply.status_code == 206
    assert reply.headers["content-type"].startswith("multipart/byteranges")
    assert whole[:2] in reply.content
    assert whole[5:9] in reply.content
