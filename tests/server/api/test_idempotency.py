"""`Idempotency-Key`: what counts as the same request, and which keys are taken."""

import base64
import json

import httpx
import pytest
from contract_calls import assert_error
from http_service import Service, encoded
from v2_calls import ended
from waiting import until

PICTURE = encoded()
TEXT = base64.b64encode(PICTURE).decode()
BODY = {"image": TEXT, "prompt": "a face", "denoise": 0.4}


def send(service: Service, key: str, mark: str | bytes, **body: object) -> httpx.Response:
    headers = {"x-api-key": key, "idempotency-key": mark}
    return service.client.post("/v2/face-detailer", json=BODY | body, headers=headers)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({}, {"samples": 1, "upscale": 2, "passes": "both", "guidance_scale": 6}),
        ({}, {"seed": None, "webhook_url": None, "max_faces": None}),
        ({}, {"timeout": 30, "scheduler": "euler"}),
        ({"num_inference_steps": 25}, {"num_inference_steps": "25"}),
        ({"num_inference_steps": 25}, {"num_inference_steps": 25.0}),
        ({"image_format": "jpeg"}, {"image_format": "JPG"}),
        ({"upscale": 4}, {"upscale": "4"}),
        ({"base64": True}, {"base64": "True"}),
        ({"webhook_url": "https://a.example/"}, {"webhook_url": " https://a.example/ "}),
        ({}, {"image": f"data:image/png;base64,{TEXT}"}),
        ({}, {"image": "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76))}),
        ({"seed": -1}, {"seed": "-1"}),
    ],
)
def test_the_same_values_in_other_spelling_are_the_same_request(
    service: Service, first: dict[str, object], again: dict[str, object]
) -> None:
    key = service.new_key("1")
    replies = [send(service, key, "a", **body) for body in (first, again)]
    assert [reply.status_code for reply in replies] == [200, 200], replies[1].text
    assert len({reply.json()["request_id"] for reply in replies}) == 1
    ended(service, key, replies[0])
    assert service.credits_of(key) == 0.99


def test_a_form_is_the_same_request_as_json(service: Service) -> None:
    key = service.new_key("1")
    first = send(service, key, "a", samples=2)
    form = service.client.post(
        "/v2/face-detailer",
        data={"prompt": "a face", "denoise": "0.40", "samples": "2"},
        files={"image": ("a.png", PICTURE, "image/png")},
        headers={"x-api-key": key, "idempotency-key": "a"},
    )
    assert form.json()["request_id"] == first.json()["request_id"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"seed": -1},
        {"seed": 12467 + 2**63},
        {"prompt": "a  face"},
        {"base64": False},
        {"image": base64.b64encode(encoded(13)).decode()},
        {"image": "https://a.example/a.png"},
        {"webhook_url": "https://a.example/"},
        {"max_faces": 19},
    ],
)
def test_another_value_is_another_request(service: Service, change: dict[str, object]) -> None:
    key = service.new_key("1")
    assert send(service, key, "a").status_code == 200
    assert_error(
        send(service, key, "a", **change), 409, "Idempotency-Key was used with another request"
    )


def test_a_drawn_seed_is_drawn_once(service: Service) -> None:
    key = service.new_key("1")
    headers = {"x-api-key": key, "idempotency-key": "a"}
    replies = [
        service.client.post("/v1/face-detailer", json=BODY | {"seed": -1}, headers=headers)
        for _ in range(2)
    ]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].headers["x-seed-value"] == replies[1].headers["x-seed-value"]
    assert replies[0].content == replies[1].content


def test_on_v1_a_webhook_is_an_unknown_field(service: Service) -> None:
    headers = {"x-api-key": service.new_key("1"), "idempotency-key": "a"}
    body = BODY | {"webhook_url": "not a URL"}
    assert service.client.post("/v1/face-detailer", json=body, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1/face-detailer", "/v2/face-detailer"])
@pytest.mark.parametrize("mark", ["é".encode(), "é".encode("latin-1"), b"", b"x" * 256])
def test_a_key_that_is_no_short_ascii_text_is_400(service: Service, path: str, mark: bytes) -> None:
    key = service.new_key("1")
    headers = {"x-api-key": key, "idempotency-key": mark}
    reply = service.client.post(path, json=BODY, headers=headers)
    assert_error(reply, 400, "Idempotency-Key should have 1 to 255 printable ASCII characters")
    assert service.credits_of(key) == 1


def test_a_request_that_was_cancelled_says_so_when_it_is_sent_again(service: Service) -> None:
    key = service.new_key("1")
    service.engine.dawdle = True
    accepted = send(service, key, "a")
    until(lambda: service.engine.jobs)
    service.client.delete(accepted.json()["response_url"], headers={"x-api-key": key})
    ended(service, key, accepted)
    headers = {"x-api-key": key, "idempotency-key": "a"}
    again = service.client.post("/v1/face-detailer", json=BODY, headers=headers)
    assert_error(again, 409, "Request was cancelled")
    assert service.credits_of(key) == 1


@pytest.mark.slow
def test_a_waiting_request_that_was_cancelled_says_so_too(serve) -> None:
    with serve(max_stored_jobs=20) as service:
        service.engine.dawdle = True
        key = service.new_key("1")
        for seed in range(4):
            send(service, key, f"filling {seed}", seed=seed)
        until(lambda: len(service.engine.jobs) == 4)
        waiting = send(service, key, "a").json()
        assert (
            service.client.delete(waiting["response_url"], headers={"x-api-key": key}).json()[
                "status"
            ]
            == "FAILED"
        )
        headers = {"x-api-key": key, "idempotency-key": "a"}
        again = service.client.post("/v1/face-detailer", json=BODY, headers=headers)
        assert_error(again, 409, "Request was cancelled")


def test_bodies_are_compared_by_what_they_say(service: Service) -> None:
    key = service.new_key("1")
    headers = {
        "x-api-key": key,
        "idempotency-key": "a",
        "content-type": "application/json",
    }
    ids = {
        service.client.post("/v2/face-detailer", content=text, headers=headers).json()["request_id"]
        for text in (json.dumps(BODY), json.dumps(dict(reversed(BODY.items())), indent=4))
    }
    assert len(ids) == 1


def test_a_full_queue_answers_what_is_sent_again_and_refuses_what_is_new(serve) -> None:
    with serve(max_stored_jobs_per_account=1) as service:
        key = service.new_key("1")
        first = send(service, key, "a")
        ended(service, key, first)
        service.engine.dawdle = True
        running = send(service, key, "b", seed=8)
        until(lambda: len(service.engine.jobs) == 2)
        for mark, body, before in (("a", {}, first), ("b", {"seed": 8}, running)):
            again = send(service, key, mark, **body)
            assert again.status_code == 200, again.text
            assert again.json()["request_id"] == before.json()["request_id"]
        headers = {"x-api-key": key, "idempotency-key": "a"}
        v1 = service.client.post("/v1/face-detailer", json=BODY, headers=headers)
        assert v1.status_code == 200
        # A key that nobody knows opens nothing: the answer comes before the body is read.
        refused = service.client.post(
            "/v2/face-detailer",
            content=b"no JSON",
            headers={**headers, "idempotency-key": "c", "content-type": "application/json"},
        )
        assert_error(refused, 429, "Server is busy")
        service.client.delete(running.json()["response_url"], headers={"x-api-key": key})
