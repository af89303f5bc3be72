"""What a good call gets, byte for byte."""

import base64
import io
import re

import httpx
import PIL.Image
import pytest
from http_service import Service, encoded

from pipeline.report import FaceIdentity, Report
from pipeline.request import Recipe, Selection
from server.types import DetailOptions, Encoding


def call(service: Service, picture: bytes, **fields: object) -> httpx.Response:
    body = {"image": base64.b64encode(picture).decode(), "prompt": "a face", "denoise": 0.4}
    return service.post(service.new_key("5"), **body | fields)


def test_a_picture_comes_back_as_base64_in_json(service, picture):
    reply = call(service, picture)
    job = service.engine.jobs[0]

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    image = re.fullmatch(rb'\{\n  "image": "([A-Za-z0-9+/=]+)"\n\}\n', reply.content)
    assert image
    # The vendor's older package: skips 14 bytes, and lets the decoder drop what follows the base64.
    assert base64.b64decode(reply.content[14:]) == base64.b64decode(image[1])
    with PIL.Image.open(io.BytesIO(base64.b64decode(image[1]))) as result:
        assert (result.format, result.size) == ("JPEG", (24, 16))
    assert job.picture == picture


def test_every_header_has_its_form(service, picture):
    reply = call(service, picture)
    assert reply.headers["x-output-metadata"] == "{'height': 16, 'samples': 1, 'width': 24}"
    assert re.fullmatch(r"\d+\.\d{1,3}", reply.headers["x-generation-time"])
    assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["x-request-id"])
    assert reply.headers["x-remaining-credits"] == "4.99"
    assert reply.headers["x-cost"] == "0.01"
    assert reply.headers["x-seed-value"] == "12467"
    assert reply.headers["x-faces-found"] == reply.headers["x-faces-detailed"] == "1"
    assert reply.headers["x-faces-unchanged"] == "0"
    assert "x-faces-left-out" not in reply.headers
    assert reply.headers["x-request-id"] == service.engine.jobs[0].id


def test_faces_that_stay_as_they_were_are_told(service, picture, caplog):
    service.engine.report = Report(found=2, detailed=2, unchanged=2)
    reply = call(service, picture)
    assert reply.status_code == 200
    assert reply.headers["x-faces-unchanged"] == "2"
    (record,) = [r for r in caplog.records if r.name == "server.api.detailing"]
    assert record.levelname == "WARNING"
    request = reply.headers["x-request-id"]
    assert record.getMessage().startswith(f"{request}: faces that stay as they were")
    assert record.getMessage().endswith(": 2")


def test_what_the_identity_gate_made_of_each_face_is_told(service, picture, caplog):
    caplog.set_level("INFO")
    judged = (
        FaceIdentity(1, 1, 0.94126, "kept"),
        FaceIdentity(2, 1, 0.7, "left"),
        FaceIdentity(1, 2, None, "unknown"),
        FaceIdentity(2, 2, 0.81, "weaker"),
    )
    service.engine.report = Report(found=2, detailed=2, identity=judged)
    reply = call(service, picture)
    told = "1:kept=0.941, 2:left=0.700, 1/2:unknown, 2/2:weaker=0.810"
    assert reply.headers["x-faces-identity"] == told
    (record,) = [r for r in caplog.records if r.name == "server.api.detailing"]
    assert record.getMessage().endswith(f": identity of the repainted faces: {told}")


def test_of_very_many_faces_the_header_has_what_proxies_take(service, picture):
    judged = tuple(FaceIdentity(number, 1, -0.123, "unknown") for number in range(1, 2001))
    service.engine.report = Report(identity=judged)
    assert len(call(service, picture).headers["x-faces-identity"]) < 2000


@pytest.mark.parametrize(
    ("asked", "media_type", "kind"),
    [
        ("jpeg", "image/jpeg", "JPEG"),
        ("jpg", "image/jpeg", "JPEG"),
        ("png", "image/png", "PNG"),
        ("webp", "image/webp", "WEBP"),
    ],
)
def test_a_picture_comes_back_as_its_bytes(service, picture, asked, media_type, kind):
    reply = call(service, picture, image_format=asked, base64=False)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == media_type
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.headers["x-output-metadata"] == "{'height': 16, 'samples': 1, 'width': 24}"
    assert PIL.Image.open(io.BytesIO(reply.content)).format == kind


def test_samples_add_a_list_of_all_pictures(service, picture):
    reply = call(service, picture, samples=3, image_format="png")
    listed = rb",\n    ".join([rb'"(\S+)"'] * 3)
    pattern = rb'\{\n  "image": "(\S+)",\n  "images": \[\n    ' + listed + rb"\n  \]\n\}\n"
    groups = re.fullmatch(pattern, reply.content).groups()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
    assert reply.headers["x-output-metadata"] == "{'height': 16, 'samples': 3, 'width': 24}"
    assert reply.headers["x-cost"] == "0.03"
    assert reply.headers["x-remaining-credits"] == "4.97"


def test_samples_without_base64_give_the_first_picture(service, picture):
    one = call(service, picture, samples=1, image_format="png", base64=False)
    three = call(service, picture, samples=3, image_format="png", base64=False)
    assert three.content == one.content


def test_multipart_takes_a_file_and_texts(service, picture):
    fields = {"prompt": "ein Gesicht, groß", "denoise": "0.4", "samples": "2", "base64": "False"}
    reply = service.client.post(
        "/v1/face-detailer",
        data=fields | {"seed": "25.0", "image_format": "png"},
        files={"image": ("face.png", picture, "image/png")},
        headers={"x-api-key": service.new_key()},
    )
    job = service.engine.jobs[0]
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/png"
    assert job.picture == picture
    assert job.options.recipe.prompt == "ein Gesicht, groß"
    recipe = job.options.recipe
    assert (recipe.samples, recipe.seed, recipe.denoise) == (2, 25, 0.4)


def test_multipart_takes_the_picture_as_text(service, picture):
    text = base64.b64encode(picture).decode()
    parts = {name: (None, v) for name, v in {"image": text, "prompt": "", "denoise": "1"}.items()}
    reply = service.client.post(
        "/v1/face-detailer", files=parts, headers={"x-api-key": service.new_key()}
    )
    assert reply.status_code == 200
    assert service.engine.jobs[0].picture == picture


def test_the_documented_defaults_are_used(service, picture):
    call(service, picture)
    options = service.engine.jobs[0].options
    assert options == DetailOptions(
        Recipe(
            prompt=options.recipe.prompt,
            denoise=options.recipe.denoise,
            negative_prompt="bad quality, painting, blur",
            samples=1,
            num_inference_steps=20,
            guidance_scale=6.0,
            seed=12467,
            upscale=2,
            passes="both",
        ),
        Selection(detection_threshold=None, max_faces=20, face_order="size", affordable=150),
        Encoding("jpeg", 95),
    )


def test_unknown_fields_are_ignored(service, picture):
    assert call(service, picture, scheduler="euler", nothing=None).status_code == 200


@pytest.mark.parametrize(
    ("sent", "used"),
    [
        (2**80, 2**80 % 2**63),
        (-7, 2**63 - 7),
        ("99999999999999999999", 99999999999999999999 % 2**63),
    ],
)
def test_seeds_of_any_size_are_taken_and_told_as_sent(service, picture, sent, used):
    reply = call(service, picture, seed=sent)
    assert reply.headers["x-seed-value"] == str(sent)
    assert service.engine.jobs[0].options.recipe.seed == used


def test_a_seed_of_minus_one_is_drawn_and_told(service, picture):
    seeds = {call(service, picture, seed="-1").headers["x-seed-value"] for _ in range(3)}
    assert len(seeds) == 3
    assert {str(job.options.recipe.seed) for job in service.engine.jobs} == seeds


def test_the_upscale_is_the_largest_that_fits(serve):
    with serve(max_side_px=100) as service:
        for side, asked, used in [(20, 4, 4), (30, 4, 2), (51, 4, 1), (51, 2, 1), (20, 1, 1)]:
            call(service, encoded(side, 10), upscale=asked)
            assert service.engine.jobs[-1].options.recipe.upscale == used, (side, asked)


def test_an_unlimited_account_still_sees_a_number(service, picture):
    key = service.new_key()
    body = {"image": base64.b64encode(picture).decode(), "prompt": "", "denoise": 0}
    assert service.post(key, **body).headers["x-remaining-credits"] == "1000000.0"


def test_credits_can_be_asked_for(service):
    key = service.new_key("12.5")
    reply = service.client.get("/v1/get-user-credits", headers={"x-api-key": key})
    assert reply.headers["content-type"] == "application/json"
    assert reply.content == b'{"credits": 12.5, "free-credits": 0.0}'


def test_a_bearer_token_is_a_key_too(service):
    for value in (f"Bearer {service.new_key('1')}", service.new_key("1")):
        reply = service.client.get("/v1/get-user-credits", headers={"authorization": value})
        assert reply.json()["credits"] == 1.0


def test_probes_need_no_key(service):
    health, ready = service.client.get("/health"), service.client.get("/ready")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert service.client.head("/health").status_code == 200
    assert service.client.head("/ready").status_code == 200
