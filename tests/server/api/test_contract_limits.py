"""The operator's limits on a request: how many faces, how many steps, how large a file can be."""

import io
from urllib.parse import unquote

import PIL.Image
import pytest
from contract_calls import GOOD, assert_error
from http_service import encoded

from pipeline.report import Report

DETECT = "/v1/face-detailer/detect"


@pytest.mark.parametrize(("limit", "text"), [(3, "0 and 3"), (0, "0 and 0")])
def test_a_request_gets_no_more_faces_than_the_setting_allows(serve, limit, text):
    sentence = f"max_faces should be between {text}"
    with serve(max_faces=limit) as service:
        key = service.new_key("1")
        assert_error(service.post(key, **GOOD | {"max_faces": limit + 1}), 400, sentence)
        assert service.engine.jobs == []
        assert service.post(key, **GOOD | {"max_faces": limit}).status_code == 200
        assert service.engine.jobs[0].options.selection.max_faces == limit


@pytest.mark.parametrize("passes", ["both", "auto"])
def test_a_request_of_which_not_one_face_fits_the_budget_is_refused_before_the_work(serve, passes):
    with serve(max_request_steps=119) as service:
        key = service.new_key("1")
        asked = GOOD | {"samples": 4, "num_inference_steps": 15}
        assert_error(
            service.post(key, **asked, passes=passes),
            400,
            "samples, num_inference_steps and passes ask for 120 steps a face, "
            "at most 119 steps a request are allowed",
        )
        assert service.engine.jobs == []
        assert service.credits_of(key) == 1.0
        assert service.post(key, **asked, passes="detail").status_code == 200


@pytest.mark.parametrize(
    ("fields", "faces"),
    [
        ({"passes": "both"}, 3),
        ({"passes": "detail"}, 6),
        ({"samples": 2, "passes": "detail"}, 3),
        ({"num_inference_steps": 60}, 1),
    ],
)
def test_the_budget_says_how_many_faces_are_affordable(serve, fields, faces):
    with serve(max_request_steps=139) as service:
        reply = service.post(service.new_key("1"), **GOOD | fields)
        assert reply.status_code == 200
        assert service.engine.jobs[0].options.selection.affordable == faces


def test_faces_that_are_left_out_are_counted_with_the_reason(service, caplog):
    caplog.set_level("INFO")
    service.engine.report = Report(found=5, detailed=2, left_out={"size": 1, "budget": 2})
    reply = service.post(service.new_key("1"), **GOOD)
    assert reply.headers["x-faces-found"] == "5"
    assert reply.headers["x-faces-detailed"] == "2"
    assert reply.headers["x-faces-left-out"] == "size=1, budget=2"
    (record,) = [r for r in caplog.records if r.name == "server.api.detailing"]
    assert record.getMessage().startswith(f"{reply.headers['x-request-id']}: ")
    assert "size=1, budget=2" in record.getMessage()


def test_what_is_not_read_of_a_prompt_is_in_a_header_and_the_log(service, caplog):
    service.engine.report = Report(unread=("a hat, büyük", "x " * 600))
    reply = service.post(service.new_key("1"), **GOOD)
    header = reply.headers["x-prompt-unread"]
    assert header.isascii()
    assert unquote(header).startswith("a hat, büyük | x x x")
    assert len(header) < 1100
    records = [r.getMessage() for r in caplog.records if r.name == "server.api.detailing"]
    assert len(records) == 2
    assert records[0].endswith("this was not read: a hat, büyük")
    service.engine.report = Report()
    assert "x-prompt-unread" not in service.post(service.new_key("1"), **GOOD).headers


def test_a_picture_is_enlarged_no_further_than_its_format_holds(serve):
    data = {"prompt": "", "denoise": "0", "base64": "false"}
    for image_format, factor in [("webp", 1), ("png", 2)]:
        with serve(max_side_px=32768) as service:
            reply = service.client.post(
                "/v1/face-detailer",
                data=data | {"image_format": image_format, "upscale": "2"},
                files={"image": encoded(8192, 1)},
                headers={"x-api-key": service.new_key("1")},
            )
            assert reply.status_code == 200
            with PIL.Image.open(io.BytesIO(reply.content)) as picture:
                assert picture.size == (8192 * factor, factor)


@pytest.mark.parametrize("path", ["/v1/face-detailer", DETECT])
def test_a_picture_that_its_format_cannot_hold_is_refused_before_the_work(serve, path):
    data = {"prompt": "", "denoise": "0", "overlay": "true", "image_format": "webp"}
    with serve(max_side_px=20_000) as service:
        key = service.new_key("1")
        reply = service.client.post(
            path, data=data, files={"image": encoded(1, 16384)}, headers={"x-api-key": key}
        )
        assert_error(reply, 400, "image_format webp holds at most 16383 pixels a side")
        assert service.engine.jobs == []
        assert service.credits_of(key) == 1.0
