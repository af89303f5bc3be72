"""`POST /v1/face-detailer/detect` over HTTP, done by a worker with the embedded networks."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest
from http_service import running
from server_program import new_key
from workers_support import pixels, png, until_ready

from server.engine.workers import WorkerPool
from server.settings import Settings

PATH = "/v1/face-detailer/detect"
ASTRONAUT = PIL.Image.open(Path(__file__).parents[3] / "examples" / "astronaut.png").convert("RGB")
# Where the face is, by eye: forehead to chin, cheek to cheek.
FACE = (180, 70, 272, 178)


@pytest.fixture(scope="module")
def tiny(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def key(environment: dict[str, str]) -> str:
    """An account without credits."""
    return new_key(environment, "0")


def post(client: httpx.Client, key: str, picture: PIL.Image.Image, **fields: str) -> httpx.Response:
    files = {"image": ("picture.png", png(np.asarray(picture)), "image/png")}
    return client.post(PATH, headers={"x-api-key": key}, files=files, data=fields)


def assert_at(box: list[float], wanted: tuple[float, ...]) -> None:
    assert box == pytest.approx(wanted, abs=12)


def test_the_face_is_told_and_nothing_is_charged(tiny: httpx.Client, key: str) -> None:
    reply = post(tiny, key, ASTRONAUT)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-cost"] == "0.0"
    assert reply.headers["X-remaining-credits"] == "0.0"
    credits_ = tiny.get("/v1/get-user-credits", headers={"x-api-key": key}).json()
    assert credits_["credits"] == 0.0
    body = reply.json()
    assert list(body) == ["width", "height", "faces", "rejected", "left_out"]
    assert (body["width"], body["height"]) == ASTRONAUT.size
    (face,) = body["faces"]
    assert_at(face["box"], FACE)
    assert face["score"] > 0.5
    assert face["quarter_turns"] == 0


def test_an_upside_down_face_is_told_and_drawn(tiny: httpx.Client, key: str) -> None:
    picture = ASTRONAUT.transpose(PIL.Image.Transpose.ROTATE_180)
    width, height = picture.size
    body = post(tiny, key, picture, overlay="true", image_format="png").json()
    face = body["faces"][0]
    assert_at(face["box"], (width - FACE[2], height - FACE[3], width - FACE[0], height - FACE[1]))
    assert face["quarter_turns"] == 2
    drawn = pixels(base64.b64decode(body["overlay"])).astype(int)
    change = drawn - np.asarray(picture)
    x0, y0, x1, y1 = (round(value) for value in face["box"])
    inside = change[y0 + 30 : y1 - 30, x0 + 30 : x1 - 30]
    # The mask is green; beyond masks, lines and labels the picture is as it was.
    assert (inside[..., 1] - inside[..., 0]).mean() > 20
    assert (change == 0).all(axis=2).mean() > 0.8


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"min_face_px": "200"}, "size"),
        ({"max_faces": "0"}, "count"),
        ({"detection_threshold": "1"}, "score"),
    ],
)
def test_why_a_face_is_left_out(
    tiny: httpx.Client, key: str, fields: dict[str, str], reason: str
) -> None:
    body = post(tiny, key, ASTRONAUT, **fields).json()
    assert body["faces"] == []
    assert_at(body["rejected"][0]["box"], FACE)
    assert body["rejected"][0]["reason"] == reason
    assert body["left_out"] == body["rejected"]
    assert "overlay" not in body


def test_at_threshold_0_the_face_is_found_like_at_the_profiles(
    tiny: httpx.Client, key: str
) -> None:
    (face,) = post(tiny, key, ASTRONAUT).json()["faces"]
    assert face in post(tiny, key, ASTRONAUT, detection_threshold="0").json()["faces"]


def test_a_picture_without_a_face(tiny: httpx.Client, key: str) -> None:
    body = post(tiny, key, PIL.Image.new("RGB", (120, 80), "teal"), overlay="true").json()
    assert (body["faces"], body["rejected"]) == ([], [])
    overlay = PIL.Image.open(io.BytesIO(base64.b64decode(body["overlay"])))
    assert (overlay.format, overlay.size) == ("JPEG", (120, 80))


@pytest.mark.slow
def test_a_request_over_its_budget_gets_the_largest_faces(tmp_path: Path) -> None:
    """15 steps of one pass fit once: the left face is detailed, the smaller one is not."""
    settings = Settings(
        data_dir=tmp_path, devices=("cpu",), profile="tiny", max_request_steps=29, upscale=1
    )
    both = PIL.Image.new("RGB", (896, 512), "teal")
    both.paste(ASTRONAUT, (0, 0))
    both.paste(ASTRONAUT.resize((384, 384)), (512, 64))
    data = {"prompt": "a face", "denoise": "0.4", "num_inference_steps": "15", "passes": "detail"}
    with running(settings, WorkerPool(settings)) as service:
        until_ready(service.client)
        reply = service.client.post(
            "/v1/face-detailer",
            headers={"x-api-key": service.new_key()},
            files={"image": ("picture.png", png(np.asarray(both)), "image/png")},
            data=data | {"base64": "false", "image_format": "png"},
        )
    assert reply.status_code == 200
    assert reply.headers["x-faces-left-out"] == "budget=1"
    changed = (pixels(reply.content) != np.asarray(both)).any(axis=2)
    assert changed[:, :512].any()
    assert not changed[:, 512:].any()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"detection_threshold": "2"}, "detection_threshold should be between 0 and 1"),
        ({"max_faces": "-1"}, "max_faces should be between 0 and 1000"),
        ({"max_faces": "2.5"}, "max_faces should be a whole number"),
        ({"min_face_px": "big"}, "Inputs which are supposed to be numbers are in alphabet"),
        (
            {"face_order": "random"},
            "Invalid face_order. Allowed values are 'size', 'left-right', 'top-bottom', 'score'.",
        ),
        ({"overlay": "perhaps"}, "overlay should be true or false"),
        (
            {"image_format": "gif"},
            "Invalid image_format. Allowed values are 'jpeg', 'png', 'webp'.",
        ),
    ],
)
def test_wrong_values(tiny: httpx.Client, key: str, fields: dict[str, str], sentence: str) -> None:
    reply = post(tiny, key, ASTRONAUT, **fields)
    assert (reply.status_code, reply.json()) == (400, {"error": sentence})


def test_what_else_is_refused(tiny: httpx.Client, key: str) -> None:
    headers = {"x-api-key": key}
    reply = tiny.post(PATH, headers=headers, json={"prompt": "a face"})
    assert (reply.status_code, reply.json()["error"]) == (
        400,
        "Image is Mandatory and must be provided",
    )
    reply = tiny.post(PATH, headers=headers, json={"image": "AAAA"})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("Invalid image: ")
    assert tiny.post(PATH, json={"image": "AAAA"}).status_code == 401
    assert tiny.get(PATH, headers=headers).status_code == 405
    assert tiny.post(PATH, headers=headers, content=b"x").status_code == 406
