"""What the OpenAPI document says of each call: its request, its replies, the errors it can end in.

`server.api.app` has the table of what answers; a test holds the two together.
"""

from typing import Final

from server import errors
from server.api import contract
from server.api.openapi.parts import (
    FORM,
    JSON,
    PICTURE,
    REPEATABLE,
    UNKNOWN,
    WORK,
    Operation,
    Reply,
    bad_fields,
    json_reply,
)

REQUEST_PATH: Final = f"{contract.REQUESTS_PATH}/{{request_id}}"
RESULT_PATH: Final = f"{contract.RESULTS_PATH}/{{token}}/{{name}}"
ASSET_PATH: Final = f"{contract.DOCS_PATH}/{{asset}}"
PAGE_ASSET_PATH: Final = f"{contract.PAGE_FILES_PATH}/{{asset}}"
_SAFE_HEADERS: Final = ("Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options")
_PAGE_HEADERS: Final = ("Cache-Control", "Accept-Ranges", *_SAFE_HEADERS)
_FILE_HEADERS: Final = ("Cache-Control", "Accept-Ranges", "X-Content-Type-Options")
_FILES: Final = dict.fromkeys(("image/jpeg", "image/png", "image/webp"), "File")

OPERATIONS: Final = (
    Operation(
        "POST",
        contract.PATH,
        "detail_faces",
        "faces",
        "Detail the faces of a picture",
        (
            Reply(
                "The picture: as JSON, or the file itself with `base64: false`.",
                {JSON: "Picture", **_FILES},
                ("picture", "pictures"),
            ),
        ),
        text="Waits for the work. A client that hangs up cancels it.",
        fields=contract.FIELDS,
        headers=("Idempotency-Key",),
        errors=(
            *(*bad_fields(contract.FIELDS), *PICTURE, *WORK, *REPEATABLE),
            errors.Cancelled(),
            errors.StoredFailure("Not enough memory on the device", 500),
            UNKNOWN,
        ),
    ),
    Operation(
        "POST",
        contract.DETECT_PATH,
        "detect_faces",
        "faces",
        "Show which faces would be detailed",
        (json_reply("The faces, and what does not count as one.", "Detections", "detections"),),
        text="Repaints nothing, and costs nothing unless the server has a price for it.",
        fields=contract.DETECT_FIELDS,
        errors=(
            *(*bad_fields(contract.DETECT_FIELDS), *PICTURE, *WORK),
            errors.NotEnoughCredits(),
        ),
    ),
    Operation(
        "POST",
        contract.V2_PATH,
        "submit_request",
        "queue",
        "Detail the faces of a picture, by the queue",
        (
            Reply(
                "The request was accepted.",
                {JSON: "Accepted"},
                ("accepted",),
                links=("get_status", "get_result", "stream_events", "cancel_request"),
            ),
        ),
        text="Answers before the work. The events at `events_url`, or polling `status_url`, tell "
        "when it is done; the result is at `response_url`.",
        fields=contract.V2_FIELDS,
        headers=("Idempotency-Key",),
        errors=(
            *(*bad_fields(contract.V2_FIELDS), *PICTURE, *REPEATABLE),
            errors.BadParameter("webhook_url should be an http:// or https:// URL"),
            errors.NoWorker(),
        ),
    ),
    Operation(
        "GET HEAD",
        f"{REQUEST_PATH}/status",
        "get_status",
        "queue",
        "How far a request is",
        (
            json_reply("How far it is.", "Status", "queued", "processing", "completed"),
            json_reply("It failed, free of charge.", "Status", "failed", status=422),
        ),
        text="Does not count against the rate limit.",
        errors=(UNKNOWN,),
    ),
    Operation(
        "GET HEAD",
        REQUEST_PATH,
        "get_result",
        "queue",
        "What came of a request",
        (
            json_reply("The result, or the status before.", "StatusOrResult", "result", "queued"),
            json_reply("It failed, free of charge.", "Result", "failed_result", status=422),
        ),
        errors=(UNKNOWN,),
    ),
    Operation(
        "GET HEAD",
        f"{REQUEST_PATH}/events",
        "stream_events",
        "queue",
        "What happens to a request, as server-sent events",
        (Reply("Events until the request ends.", {"text/event-stream": "Events"}, ("events",)),),
        text="`queued`, `processing`, `detecting`, `found`, `step`, `upscaling`, and at last "
        "`done`, `failed` or `cancelled`.",
        headers=("Last-Event-ID",),
        errors=(UNKNOWN,),
    ),
    Operation(
        "POST",
        f"{REQUEST_PATH}/cancel",
        "cancel_request",
        "queue",
        "Stop a request",
        (json_reply("Its status.", "Status", "cancelled", "completed"),),
        text="A request that has ended stays as it is.",
        errors=(UNKNOWN,),
    ),
    Operation(
        "DELETE",
        REQUEST_PATH,
        "delete_request",
        "queue",
        "Stop a request",
        (json_reply("Its status.", "Status", "cancelled", "completed"),),
        text="The same as `cancel`: a request that has ended, and its result, are still there.",
        errors=(UNKNOWN,),
    ),
    Operation(
        "GET HEAD",
        RESULT_PATH,
        "get_result_file",
        "queue",
        "A result's file",
        (
            Reply("The file.", _FILES, headers=_FILE_HEADERS),
            Reply(
                "A part of the file.",
                {**_FILES, "multipart/byteranges": "File"},
                headers=(*_FILE_HEADERS, "Content-Range"),
                status=206,
            ),
        ),
        keyed=False,
        headers=("Range",),
        errors=(errors.UnknownPath(), errors.BadRange(), errors.BeyondEnd("bytes */214853")),
    ),
    Operation(
        "POST",
        contract.UPLOAD_PATH,
        "upload_pictures",
        "queue",
        "Keep pictures that later requests name by URL",
        (json_reply("Where they are.", "Uploaded", "uploaded"),),
        body={JSON: "UploadRequest", FORM: "UploadForm"},
        errors=(
            errors.BadParameter("data_urls should be a list of data URIs, or send files"),
            *PICTURE,
            errors.StorageFull(),
        ),
    ),
    Operation(
        "GET HEAD",
        contract.CREDITS_PATH,
        "get_credits",
        "account",
        "The account's credits",
        (json_reply("The credits of the key's account.", "Credits", "credits"),),
    ),
    Operation(
        "GET HEAD",
        contract.HEALTH_PATH,
        "get_health",
        "probes",
        "Whether the server process is running",
        (json_reply("It is running.", "State", "healthy"),),
        keyed=False,
    ),
    Operation(
        "GET HEAD",
        contract.READY_PATH,
        "get_readiness",
        "probes",
        "Whether a worker can serve",
        (json_reply("One can serve.", "State", "ready"),),
        keyed=False,
        errors=(
            errors.Starting(),
            errors.NoWorker(),
            errors.StorageAway(),
            errors.StorageFull(),
        ),
    ),
    Operation(
        "GET HEAD",
        contract.METRICS_PATH,
        "get_metrics",
        "probes",
        "The server's metrics, for Prometheus",
        (
            Reply(
                "The metrics.",
                {"text/plain": "Text"},
                headers=(
                    *("X-remaining-credits", "X-generation-time", "X-Request-ID"),
                    "X-Content-Type-Options",
                ),
            ),
        ),
        keyed=False,
    ),
    Operation(
        "GET HEAD",
        contract.PAGE_PATH,
        "get_page",
        "pages",
        "A page to detail pictures on",
        (Reply("The page.", {"text/html": "Text"}, headers=_PAGE_HEADERS),),
        keyed=False,
    ),
    Operation(
        "GET HEAD",
        PAGE_ASSET_PATH,
        "get_page_asset",
        "pages",
        "A file of that page",
        (
            Reply(
                "The file.",
                {
                    "text/javascript": "Text",
                    "text/css": "Text",
                    "image/svg+xml": "Text",
                    "image/jpeg": "File",
                },
                headers=_PAGE_HEADERS,
            ),
        ),
        keyed=False,
        errors=(errors.UnknownPath(),),
    ),
    Operation(
        "GET HEAD",
        contract.OPENAPI_PATH,
        "get_openapi",
        "pages",
        "This document",
        (json_reply("This document.", "Document"),),
        keyed=False,
    ),
    Operation(
        "GET HEAD",
        contract.DOCS_PATH,
        "get_docs",
        "pages",
        "This document as a page to try it out",
        (Reply("The page.", {"text/html": "Text"}, headers=_SAFE_HEADERS),),
        keyed=False,
    ),
    Operation(
        "GET HEAD",
        ASSET_PATH,
        "get_docs_asset",
        "pages",
        "A file of that page",
        (
            Reply(
                "The file.",
                {"text/javascript": "Text", "text/css": "Text", "image/png": "File"},
                headers=_PAGE_HEADERS,
            ),
        ),
        keyed=False,
        errors=(errors.UnknownPath(),),
    ),
)
"""Every call, in the order of the document."""
