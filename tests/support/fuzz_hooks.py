"""What schemathesis sends: pictures that can be read, and no address but this machine's.

Loaded by schemathesis itself, in its own process.
"""

import base64
import io
import re
import uuid
from typing import Any

import PIL.Image
import schemathesis
from schemathesis.generation import GenerationMode

_FILE = io.BytesIO()
PIL.Image.linear_gradient("L").resize((32, 24)).save(_FILE, "png")
PICTURE = _FILE.getvalue()
DATA_URI = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
HOOK = "https://127.0.0.1/hook"
RESULT = re.compile(r"/v2/results/([\w-]+)/([\w.]+)")
_seen: dict[str, str] = {}


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Put readable pictures into what fits the schema, and harmless ones where URLs are."""
    fits = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
    if fits and _seen and case.operation.path == "/v2/results/{token}/{name}":
        case.path_parameters.update(_seen)
    if fits and case.headers and "Idempotency-Key" in case.headers:
        # Few keys are made up; a known one would be answered 409, and nothing tried.
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
    if not isinstance(case.body, dict):
        return
    form = case.media_type == "multipart/form-data"
    for name, value in case.body.items():
        address = isinstance(value, str) and "://" in value
        if name in ("image", "file") and (fits or address):
            case.body[name] = PICTURE if form else DATA_URI
        elif name == "webhook_url" and (fits or address):
            case.body[name] = HOOK
        elif name == "data_urls" and isinstance(value, list):
            case.body[name] = [DATA_URI if fits or "://" in str(item) else item for item in value]


@schemathesis.hook
def after_call(_context: Any, _case: Any, response: Any) -> None:
    """Remember where a result's file is, for the call that gets it."""
    found = RESULT.search(response.content.decode(errors="ignore"))
    if found and response.status_code == 200:
        _seen.update(token=found[1], name=found[2])
