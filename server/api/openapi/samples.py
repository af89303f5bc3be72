"""Replies as the server itself writes them: the examples of the OpenAPI document."""

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from sse_starlette import ServerSentEvent
from starlette.responses import Response

from pipeline.progress import Progress, Step
from pipeline.report import FaceIdentity, Report
from pipeline.request import Recipe, Selection
from pipeline.types import Detection, FaceBox
from server import errors
from server.api import contract
from server.api.events import EVENT_HEADERS, in_words
from server.api.replies import (
    ERRORS,
    Call,
    Delivery,
    credits_reply,
    detect_reply,
    json_reply,
    picture_reply,
    state_reply,
)
from server.api.replies_v2 import job_reply, result_body, status_body, submitted_body, wire_id
from server.api.stored import StoredRequest, StoredResult
from server.api.uploading import uploaded_reply
from server.settings import Settings
from server.types import DetailOptions, Encoding, JobState, Outcome, StoredJob

BASE_URL: Final = "https://faces.example"
CALL: Final = Call("5f0c8d1e2b3a49768a9bacbdcedfe0f1", started_s=0, remaining=Decimal("99.99"))
_JOB_ID: Final = "0f8d2a527a4e4a6b9d0e6f5b0c1f7a11"
RESULT_FOLDER: Final = "Zb0vJ3Qk8mYpT1sXaL5nRc7uWdEfGh2i"
_JPEG: Final = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
_CREATED_MS: Final = 1_769_860_800_000
REQUEST_ID: Final = wire_id(_JOB_ID)


def samples(settings: Settings) -> Mapping[str, Response]:
    """The replies of calls that went well, and of requests that failed or were cancelled."""
    queued = _queued(settings)
    running = replace(queued, state=JobState.PROCESSING, started_ms=_CREATED_MS + 20)
    done = replace(
        running, state=JobState.COMPLETED, finished_ms=_CREATED_MS + 3440, result=_RESULT.to_json()
    )
    failed = replace(
        running,
        state=JobState.FAILED,
        finished_ms=_CREATED_MS + 3440,
        error="Internal Server Error",
        error_status=500,
    )
    cancelled = replace(failed, error=ERRORS[errors.Cancelled].text, cancelled=True)
    result = result_body(done, BASE_URL, CALL.remaining)
    return {
        "picture": _picture(settings, 1),
        "pictures": _picture(settings, 2),
        "detections": detect_reply(_DETECTED, CALL),
        "accepted": json_reply(submitted_body(queued, BASE_URL), CALL),
        "queued": job_reply(queued, status_body(queued, BASE_URL, 3), CALL),
        "processing": job_reply(running, status_body(running, BASE_URL, None), CALL),
        "completed": job_reply(done, status_body(done, BASE_URL, None), CALL),
        "failed": job_reply(failed, status_body(failed, BASE_URL, None), CALL),
        "cancelled": json_reply(status_body(cancelled, BASE_URL, None), CALL),
        "result": job_reply(done, result, CALL),
        "failed_result": job_reply(failed, result_body(failed, BASE_URL, CALL.remaining), CALL),
        "events": _events(result),
        "uploaded": uploaded_reply([f"{BASE_URL}{contract.ASSETS}/{RESULT_FOLDER}"], CALL),
        "credits": credits_reply(CALL),
        "healthy": state_reply("ok", CALL),
        "ready": state_reply("ready", CALL),
    }


def _queued(settings: Settings) -> StoredJob:
    recipe = Recipe(prompt="detailed face", denoise=0.4)
    options = DetailOptions(recipe, Selection(), Encoding("jpeg", 95))
    request = StoredRequest(options, recipe.seed, settings.cost_per_sample, BASE_URL)
    return StoredJob(
        id=_JOB_ID,
        account_id=1,
        key_id=1,
        state=JobState.QUEUED,
        request=request.to_json(),
        created_ms=_CREATED_MS,
        started_ms=None,
        finished_ms=None,
        attempts=0,
        cancelled=False,
        error=None,
        error_status=None,
        result=None,
        webhook_url=None,
        webhook_tries=0,
    )


_REPORT: Final = Report(
    found=3,
    detailed=1,
    left_out={"size": 1, "budget": 1},
    unread=("a hat",),
    note="A note.",
    identity=(FaceIdentity(1, 1, 0.873, "kept"), FaceIdentity(1, 2, 0.702, "weaker")),
)
_RESULT: Final = StoredResult(
    token=RESULT_FOLDER,
    names=("0.jpg",),
    sizes_bytes=(214_853,),
    width_px=1024,
    height_px=1024,
    report=_REPORT,
    seconds=3.41,
)
_PROGRESS: Final = (
    Progress("found", 1, total=40),
    Progress(
        "outline", 1, Step(face=1, sample=1, number=1, count=20), done=1, total=40, share=0.0234
    ),
    Progress("upscaling", 1, done=40, total=40, share=0.9449),
)
_DETECTED: Final = Outcome(
    pictures=(),
    width_px=512,
    height_px=512,
    detections=(
        Detection(FaceBox(174.2, 71.5, 271.6, 201.3, 0.853)),
        Detection(FaceBox(402.0, 310.5, 410.1, 319.9, 0.512), rejected="size"),
    ),
)


def _picture(settings: Settings, count: int) -> Response:
    """One with a face over the budget has every header."""
    report = _REPORT if count > 1 else Report(found=1, detailed=1)
    outcome = Outcome((_JPEG,) * count, width_px=1024, height_px=1024, report=report)
    cost = settings.cost_per_sample * count
    return picture_reply(Delivery(outcome, True, "jpeg", 12467, cost), CALL)


def _events(result: Mapping[str, object]) -> Response:
    told: Mapping[str, Mapping[str, object]] = {
        "queued": {"place": 0},
        "processing": {},
        "detecting": {},
        **dict([in_words(progress) for progress in _PROGRESS]),
        "done": result,
    }
    sent = [
        ServerSentEvent(json.dumps(data), event=name, id=str(number))
        for number, (name, data) in enumerate(told.items(), start=1)
    ]
    headers = CALL.headers() | EVENT_HEADERS
    body = b"".join(event.encode() for event in sent)
    return Response(body, headers=headers, media_type="text/event-stream")
