"""PyPI `segmind`'s queue calls, unmodified, with nothing changed but the address."""

import base64
import contextlib
import io
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import PIL.Image
import pytest
import segmind
from segmind import InferenceFailed, SegmindClient, SegmindError
from segmind.files import Files

DAMAGED = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"


@pytest.fixture
def client(server_url: str, new_key) -> Iterator[SegmindClient]:
    client = SegmindClient(api_key=new_key(3), base_url=f"{server_url}/v1")
    yield client
    client._client.close()


def picture_at(url: str) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(httpx.get(url, trust_env=False).content))


def test_run_gives_the_picture_and_what_it_cost(client, picture_base64):
    started = time.monotonic()
    # The package sends every keyword on, its own names too.
    body = client.run(
        "face-detailer", image=picture_base64, prompt="a face", denoise=0.4, timeout=5, interval=1
    )
    assert body["status"] == "COMPLETED"
    assert (body["metrics"]["cost"], body["metrics"]["remaining_credits"]) == (0.01, 2.99)
    assert 0 <= body["metrics"]["total_time"] <= time.monotonic() - started
    image = picture_at(body["output"])
    assert (image.format, image.size) == ("JPEG", (128, 96))


@pytest.mark.slow
def test_a_real_face_comes_back_as_by_v1(client):
    fields = {
        "image": base64.b64encode(DAMAGED.read_bytes()).decode(),
        "prompt": "detailed face",
        "denoise": 0.4,
        "image_format": "png",
        "upscale": 1,
    }
    queued = picture_at(client.run("face-detailer", **fields)["output"])
    direct = client.run_sync("face-detailer", **fields, base64=False)
    with PIL.Image.open(io.BytesIO(direct.content)) as image:
        assert queued.tobytes() == image.tobytes()
    with PIL.Image.open(DAMAGED) as before:
        assert queued.tobytes() != before.convert("RGB").tobytes()


def test_submit_status_wait_and_result(client, picture_base64):
    job = client.submit_async("face-detailer", image=picture_base64, prompt="", denoise=0.4)
    assert str(uuid.UUID(job.request_id)) == job.request_id
    assert job.status()["status"] in ("QUEUED", "PROCESSING", "COMPLETED")
    done = job.wait(timeout=60, interval=0.1)
    assert done == job.result()
    assert (done["seed"], done["prompt"], done["error"]) == (12467, "", None)


def test_a_failure_arrives_as_the_packages_own_and_is_free(client):
    job = client.submit_async(
        "face-detailer", image="http://127.0.0.1:1/none.png", prompt="", denoise=0.4
    )
    with pytest.raises(InferenceFailed) as caught:
        job.wait(timeout=60, interval=0.1)
    assert caught.value.detail == "Invalid image: its URL cannot be reached"
    assert job.result()["status"] == "FAILED"
    assert client._client.get("/get-user-credits").json()["credits"] == 3.0


def test_wrong_parameters_arrive_at_once(client, picture_base64):
    with pytest.raises(SegmindError) as caught:
        client.run("face-detailer", image=picture_base64, prompt="", denoise=7)
    assert (caught.value.status, caught.value.detail) == (400, "denoise should be between 0 and 1")


def test_an_uploaded_file_is_taken_by_its_url(client, server_url, monkeypatch):
    monkeypatch.setattr(Files, "STORAGE_BASE_URL", server_url)
    urls = client.files.upload([DAMAGED])["file_urls"]
    body = client.run("face-detailer", image=urls[0], prompt="", denoise=0, upscale=1)
    with PIL.Image.open(DAMAGED) as before:
        assert picture_at(body["output"]).size == before.size


def test_another_accounts_job_is_unknown(client, server_url, new_key, picture_base64):
    job = client.submit_async("face-detailer", image=picture_base64, prompt="", denoise=0.4)
    with contextlib.closing(SegmindClient(new_key(1), f"{server_url}/v1")._client) as other:
        for url in (job.status_url, job.response_url):
            reply = other.get(url)
            assert (reply.status_code, reply.json()) == (
                404,
                {"error": f"Request {job.request_id} not found"},
            )


def test_the_packages_own_function(client, picture_base64, monkeypatch):
    """`segmind.run`, which makes its client when it is first called."""
    monkeypatch.setattr(segmind, "_default_client", client)
    assert segmind.run("face-detailer", image=picture_base64, prompt="", denoise=0)["output"]
