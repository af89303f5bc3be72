"""What calls cost: the most is set aside before the work, what was done is charged after it."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal

import httpx
import pytest
from contract_calls import GOOD, assert_error
from http_service import ResizeEngine, Service, running

from pipeline.report import FaceIdentity, Report
from server.accounts.ledger import Ledger
from server.settings import Settings
from server.types import Outcome

Serve = Callable[..., AbstractContextManager[Service]]
# The picture has 12 × 8 pixels.
PRICES = {
    "cost_per_call": "0.1",
    "cost_per_sample": "0.01",
    "cost_per_face": "0.001",
    "cost_per_megapixel": "10",
    "cost_per_step": "0.0001",
    "max_faces": 3,
}
BODY = {**GOOD, "samples": 2, "num_inference_steps": 15, "upscale": 2}
# Of 2 samples: 6 faces, 2 · 384 pixels, 2 · 3 · 15 · 2 steps.
MOST = Decimal("0.1") + Decimal("0.02") + Decimal("0.006") + Decimal("0.00768") + Decimal("0.018")


def held(service: Service) -> Decimal:
    return Ledger(service.database).accounts()[-1].held


def test_what_was_done_is_charged_and_no_face_that_stayed_as_it_was(serve: Serve) -> None:
    with serve(**PRICES) as service:
        # Two faces in two samples, of which one got nothing usable.
        service.engine.report = Report(found=2, detailed=2, unchanged=1, steps=90)
        key = service.new_key("1")
        reply = service.post(key, **BODY)
        cost = Decimal("0.1") + Decimal("0.02") + Decimal("0.003") + Decimal("0.00768")
        cost += Decimal("0.009")
        assert Decimal(reply.headers["x-cost"]) == cost
        assert Decimal(reply.headers["x-remaining-credits"]) == 1 - cost
        assert Decimal(str(service.credits_of(key))) == 1 - cost
        assert held(service) == 0


def test_what_the_identity_gate_took_back_is_not_charged(serve: Serve) -> None:
    judged = (FaceIdentity(1, 1, 0.9, "weaker"), FaceIdentity(1, 2, 0.2, "left"))
    with serve(cost_per_sample=0, cost_per_face="0.001") as service:
        service.engine.report = Report(found=1, detailed=1, identity=judged)
        reply = service.post(service.new_key("1"), **BODY)
    assert Decimal(reply.headers["x-cost"]) == Decimal("0.001")


@pytest.mark.parametrize(("balance", "status"), [(MOST, 200), (MOST - Decimal("1e-10"), 406)])
def test_a_call_needs_the_most_that_it_may_cost(
    serve: Serve, balance: Decimal, status: int
) -> None:
    with serve(**PRICES) as service:
        key = service.new_key(f"{balance:f}")
        reply = service.post(key, **BODY)
        queued = service.client.post("/v2/face-detailer", json=BODY, headers={"x-api-key": key})
    assert reply.status_code == status
    # Another of the same is too much in any case.
    assert_error(queued, 406, "Not enough credits")


@pytest.mark.slow
def test_the_most_is_set_aside_while_it_runs(serve: Serve) -> None:
    with serve(**PRICES) as service:
        service.engine.dawdle = True
        key = service.new_key("1")
        call = threading.Thread(target=_give_up, args=(service, key))
        call.start()
        while not service.engine.jobs:
            assert call.is_alive()
            call.join(0.01)
        assert held(service) == MOST
        call.join()
        assert service.engine.cancelled.wait(30)


def _give_up(service: Service, key: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        service.client.post("/v1/face-detailer", json=BODY, headers={"x-api-key": key}, timeout=6)


@pytest.mark.parametrize("header", [{}, {"Idempotency-Key": "a"}])
@pytest.mark.parametrize("path", ["/v1/face-detailer", "/v2/face-detailer"])
def test_every_way_costs_the_same(serve: Serve, path: str, header: dict[str, str]) -> None:
    with serve(**PRICES) as service:
        service.engine.report = Report(found=1, detailed=1, steps=30)
        key = service.new_key("1")
        headers = {"x-api-key": key, **header}
        reply = service.client.post(path, json=BODY, headers=headers)
        service.until_idle()
        cost = Decimal("0.1") + Decimal("0.02") + Decimal("0.002") + Decimal("0.00768")
        cost += Decimal("0.003")
        if path.startswith("/v1"):
            assert Decimal(reply.headers["x-cost"]) == cost
        else:
            url = f"/v2/requests/{reply.json()['request_id']}"
            metrics = service.client.get(url, headers=headers).json()["metrics"]
            assert metrics["cost"] == pytest.approx(float(cost))
        assert Decimal(str(service.credits_of(key))) == 1 - cost
        assert held(service) == 0


def test_a_call_that_fails_costs_nothing(serve: Serve) -> None:
    with serve(**PRICES) as service:
        service.engine.error = RuntimeError("the cause")
        key = service.new_key("1")
        assert service.post(key, **BODY).status_code == 500
        assert service.credits_of(key) == 1.0
        assert held(service) == 0


class Finder(ResizeEngine):
    """Looks for faces, and finds none."""

    async def run(self, job: object, _on_progress: object = None) -> object:
        if self.error:
            raise self.error
        self.jobs.append(job)
        return Outcome(pictures=(), width_px=12, height_px=8)


def test_looking_for_faces_has_a_price_of_its_own(tmp_path) -> None:
    settings = Settings(data_dir=tmp_path, cost_per_detection="0.005")
    with running(settings, Finder()) as service:
        key = service.new_key("0.012")

        def look() -> httpx.Response:
            body = {"image": GOOD["image"]}
            path = "/v1/face-detailer/detect"
            return service.client.post(path, json=body, headers={"x-api-key": key})

        first = look()
        assert (first.status_code, first.headers["x-cost"]) == (200, "0.005")
        assert first.headers["x-remaining-credits"] == "0.007"
        service.engine.error = RuntimeError("the cause")
        assert look().status_code == 500
        service.engine.error = None
        assert look().headers["x-remaining-credits"] == "0.002"
        assert_error(look(), 406, "Not enough credits")


def test_the_defaults_cost_a_hundredth_for_a_sample_and_nothing_else(service: Service) -> None:
    service.engine.report = Report(found=9, detailed=9, steps=900)
    reply = service.post(service.new_key("1"), **{**GOOD, "samples": 3})
    assert reply.headers["x-cost"] == "0.03"
