"""The settings, read once from the environment (`FACE_DETAILER_…`).

The text below each setting is its description in docs/settings.md, whose tables `make docs` writes.
"""

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from server import ENV_PREFIX
from server.errors import UsageError
from server.setting_values import (
    BaseUrl,
    Bytes,
    CompileMode,
    Credits,
    DatabaseUrl,
    Devices,
    Folder,
    Host,
    Identity,
    LogFormatText,
    LogLevelText,
    MemoryMode,
    Mirrors,
    Origins,
    Port,
    Profile,
    Proxies,
    Token,
    Upscale,
)

# These may hold a password, which no message and no log shows.
_SECRETIVE = ("database_url", "hub_endpoint", "metrics_token", "url_mirrors")
_MIB = 1024 * 1024
# The settings that commands have options for.
_OPTIONS = {
    "compile": "--compile",
    "devices": "--device",
    "host": "--host",
    "memory_mode": "--memory-mode",
    "port": "--port",
    "profile": "--profile",
}


class SettingsError(UsageError):
    """A setting has a value that is not allowed. The text names the variable or, if it was given on
    the command line, the option; the rule; and the value.
    """


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "face-detailer"


class Settings(BaseSettings):
    """All settings. Each is an environment variable: `FACE_DETAILER_` and the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, env_ignore_empty=True, use_attribute_docstrings=True
    )

    host: Host = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is every IPv4 address of the machine."""

    port: Port = 8000
    """Port to listen on; 0 takes any free one, which `serve` prints."""

    public_base_url: BaseUrl | None = None
    """The address at which clients reach the server, where a proxy stands in front of it, with the
    path prefix if there is one. `serve` and `make serve` print it.
    """

    keep_alive_s: Annotated[int, Field(ge=1, le=3600, json_schema_extra={"unit": "s"})] = 75
    """How long an idle connection is kept. Longer than proxies keep theirs (nginx and AWS's load
    balancers: 60 s), or they now and then use one that was just closed, and answer 502.
    """

    header_timeout_s: Annotated[float, Field(gt=0, le=3600, json_schema_extra={"unit": "s"})] = 20.0
    """How long a request's line and headers may take to arrive, from their first byte; then 408,
    and the connection is closed.
    """

    reply_timeout_s: Annotated[float, Field(gt=0, le=3600, json_schema_extra={"unit": "s"})] = 60.0
    """How long a reply that is read at less than 4 KiB a second is kept; then the connection is
    closed. A slow line is served to the end, and a stream in which nothing is said is not slow.
    """

    trusted_proxies: Proxies = ("127.0.0.1", "::1")
    """The proxies whose `X-Forwarded-Proto`, `-Host`, `-Prefix` and `-For` are believed: addresses
    and networks, separated by commas; `*` is whoever connects.
    """

    cors_origins: Origins = ()
    """The pages that may call from a browser, as `https://app.example`, separated by commas; `*` is
    every page. Unset: none.
    """

    pages: bool = True
    """Whether `/`, the page to detail pictures on, and `/docs` and `/openapi.json`, which describe
    the API, are served. They need no key.
    """

    log_level: LogLevelText = "info"
    """What goes to standard error, one line per record. API keys are never logged."""

    log_format: LogFormatText = "text"
    """How: as text, or each record as a JSON object: [the log](monitoring.md#the-log)."""

    metrics: bool = False
    """Whether `/metrics` is served, for Prometheus: [what it has](monitoring.md#metrics). It needs
    no API key, so a proxy that strangers reach should not pass it on, or set a token.
    """

    metrics_token: Annotated[Token | None, Field(repr=False)] = None
    """What whoever reads `/metrics` must send, as `Authorization: Bearer …`. Unset: nothing."""

    data_dir: Folder = Field(default_factory=_default_data_dir)
    """Where accounts and fetched weights live (below `XDG_DATA_HOME` where that is set). Created
    for its owner alone (0700). One server at a time uses it.
    """

    database_url: Annotated[DatabaseUrl | None, Field(repr=False)] = None
    """The accounts' database, as SQLAlchemy writes addresses. Unset: SQLite, `accounts.sqlite3` in
    the data folder. PostgreSQL needs the extra `face-detailer[postgres]`.
    """

    profile: Profile = "auto"
    """Which models. `auto`: `sdxl` where CUDA is present, else `tiny`. What the
    others are: [weights](weights.md#profiles). A file:
    [a profile of your own](weights.md#a-profile-of-your-own).
    """

    devices: Devices = "auto"
    """One worker process each. `auto`: every CUDA device, else the CPU."""

    memory_mode: MemoryMode = "auto"
    """Which of SDXL's networks are on the GPU: all; only the one at work (a ControlNet with the
    UNet); or that one, and pictures are encoded and decoded in tiles. `auto`: by the memory that is
    free at the start.
    """

    compile: CompileMode = "off"
    """Which of SDXL's networks torch compiles at the start, for minutes: none; the UNet's repeated
    blocks; or all of the UNet and of the VAE's decoder. What was compiled is kept in the data
    folder. Not yet measured on a GPU.
    """

    identity: Identity = "off"
    """Whether a repainted face must still be the same person's to the profile's recogniser; else it
    is repainted from half as much noise, or left as it was. A number: the least cosine, instead of
    the profile's. [What it needs](weights.md#the-identity-gate).
    """

    worker_concurrency: Annotated[int, Field(ge=1, le=64, json_schema_extra={"unit": "jobs"})] = 4
    """How many jobs a worker does at a time."""

    queue_size: Annotated[int, Field(ge=1, le=10_000, json_schema_extra={"unit": "jobs"})] = 32
    """How many jobs may wait for a worker; the next one is answered 429."""

    queue_share: Annotated[float, Field(gt=0, le=1)] = 0.75
    """The part of the queue that one account's jobs may take; the rest is for other accounts, which
    take turns with it.
    """

    detect_concurrency: Annotated[int, Field(ge=1, le=64, json_schema_extra={"unit": "jobs"})] = 2
    """How many calls of `/detect` a worker does beside these. They have a queue of their own, of
    the same size.
    """

    request_timeout_s: Annotated[float, Field(gt=0, le=3600, json_schema_extra={"unit": "s"})] = (
        120.0
    )
    """Deadline of a job, waiting included; then 504. It begins anew, twice at most, when a job that
    hung was in its way, or when its worker, or one that it waited for, died.
    """

    shutdown_grace_s: Annotated[float, Field(ge=0, le=3600, json_schema_extra={"unit": "s"})] = 20.0
    """How long running jobs may go on after a signal to stop; then 503."""

    keep_results_s: Annotated[
        float, Field(ge=1, le=30 * 86_400, json_schema_extra={"unit": "s"})
    ] = 3600.0
    """How long an ended request of the queue and its results are kept; so are uploaded pictures."""

    max_stored_jobs: Annotated[
        int, Field(ge=1, le=1_000_000, json_schema_extra={"unit": "jobs"})
    ] = 5000
    """How many requests of the queue may wait or run, of all accounts together; the next one is
    answered 429.
    """

    max_stored_jobs_per_account: Annotated[
        int, Field(ge=1, le=1_000_000, json_schema_extra={"unit": "jobs"})
    ] = 500
    """The same for each account."""

    max_stored_bytes: Annotated[
        int, Field(ge=_MIB, le=2**50, json_schema_extra={"unit": "bytes"})
    ] = 10 * 1024 * _MIB
    """What the pictures and results of the queue may take on disk, in the data folder (by default
    10 GiB); then 503.
    """

    max_uploaded_bytes: Annotated[
        int, Field(ge=_MIB, le=2**50, json_schema_extra={"unit": "bytes"})
    ] = 1024 * _MIB
    """What an account's uploaded pictures may take of that (by default 1 GiB); then 413."""

    max_body_bytes: Bytes = 50 * _MIB
    """Longest request body (by default 50 MiB)."""

    max_bodies: Annotated[int, Field(ge=1, le=10_000, json_schema_extra={"unit": "bodies"})] = 256
    """How many request bodies are received at a time; the next one is answered 429, unread."""

    max_bodies_bytes: Annotated[
        int, Field(ge=_MIB, le=2**40, json_schema_extra={"unit": "bytes"})
    ] = 512 * _MIB
    """What these may have together (by default 512 MiB), by the length that each declares, or as
    far as it has come, inflated; then 429. A body alone may be larger.
    """

    body_timeout_s: Annotated[float, Field(gt=0, le=3600, json_schema_extra={"unit": "s"})] = 60.0
    """How long a request's body may take to arrive; then 400. A call keeps its place in the queue
    meanwhile.
    """

    max_image_pixels: Annotated[
        int, Field(ge=1, le=500_000_000, json_schema_extra={"unit": "pixels"})
    ] = 50_000_000
    """Largest picture, width × height."""

    max_side_px: Annotated[int, Field(ge=64, le=32_768, json_schema_extra={"unit": "pixels"})] = (
        8192
    )
    """Longest side of a picture, sent or enlarged."""

    keep_exif: bool = False
    """Whether results keep the EXIF of the picture that was sent, without GPS, orientation,
    thumbnails and maker notes. Off, of its metadata they keep the resolution alone.
    """

    # One step of one face at 512², guidance included, is 3.2 TFLOP in SDXL (docs/performance.md):
    # 6000 of them within the default 120 s are 160 TFLOP/s, about half of an A100's peak. Twenty
    # faces take 800 in a request that leaves everything else at its default, and 12,000 at most.
    max_request_steps: Annotated[
        int, Field(ge=15, le=10_000_000, json_schema_extra={"unit": "steps"})
    ] = 6000
    """Most denoising steps of one request: faces × `samples` × `num_inference_steps` × passes (two,
    or one for `passes: detail`). Only as many faces as fit are detailed, the largest first; a
    request of which not even one face fits is answered 400. Lower it where the device is too slow
    for so many steps within `FACE_DETAILER_REQUEST_TIMEOUT_S`.
    """

    upscale: Upscale = 2
    """Output size over input size, where a request does not say."""

    max_faces: Annotated[int, Field(ge=0, le=1000, json_schema_extra={"unit": "faces"})] = 20
    """How many faces are detailed, the largest ones, where a request does not say. It cannot ask
    for more.
    """

    min_face_px: Annotated[
        float, Field(ge=0, le=10_000, allow_inf_nan=False, json_schema_extra={"unit": "pixels"})
    ] = 12.0
    """Faces whose shorter side is smaller stay as they are, where a request does not say."""

    detection_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """The score from which a detection counts as a face, where a request does not say. Unset: the
    profile's own.
    """

    fetch_private_addresses: bool = False
    """Whether URLs may point into private networks and to this machine. Leave it off where
    strangers can call.
    """

    fetch_timeout_s: Annotated[float, Field(gt=0, le=600, json_schema_extra={"unit": "s"})] = 10.0
    """How long fetching one picture may take."""

    fetch_max_bytes: Bytes = 50 * _MIB
    """Largest file that is fetched (by default 50 MiB)."""

    hub_endpoint: Annotated[BaseUrl | None, Field(repr=False)] = None
    """A mirror of the model hub, for `face-detailer weights pull`. Unset: the hub itself, or what
    `HF_ENDPOINT` says. A user name and password in it are used and never shown.
    """

    url_mirrors: Annotated[Mirrors, Field(repr=False)] = None
    """Beginnings of addresses and what to put in their place, for `face-detailer weights pull`; the
    longest match counts.
    """

    cost_per_call: Credits = Decimal(0)
    """What a call that details costs, whatever else it costs. A call that fails costs nothing."""

    cost_per_sample: Credits = Decimal("0.01")
    """What one sample of one call costs, in addition."""

    cost_per_face: Credits = Decimal(0)
    """What one face costs, in each sample. A face for which the model returned nothing usable costs
    nothing.
    """

    cost_per_megapixel: Credits = Decimal(0)
    """What a million pixels of a result cost, in each sample."""

    cost_per_step: Credits = Decimal(0)
    """What one denoising step of one face costs, in each pass and sample."""

    cost_per_detection: Credits = Decimal(0)
    """What a call of `/detect` costs."""

    unlimited_credits_shown: Credits = Decimal(1_000_000)
    """The number that an unlimited account's replies carry, since clients rely on one."""

    rate_limit_per_minute: Annotated[
        int, Field(ge=0, le=1_000_000, json_schema_extra={"unit": "calls"})
    ] = 0
    """Calls per minute and account, counted by all servers on the database together; a minute
    begins with its first call. 0 sets no limit.
    """

    rate_limit_per_day: Annotated[
        int, Field(ge=0, le=1_000_000, json_schema_extra={"unit": "calls"})
    ] = 0
    """Calls per day and account, likewise: 24 hours from the first of them, restarts or not. 0 sets
    no limit.
    """

    def make_data_dir(self) -> Path:
        """The data folder, created for its owner alone (0700) if it is missing."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.data_dir


def read_settings(**overrides: object) -> Settings:
    """The environment's settings; `overrides`, which are options of the command line, win over it,
    except those that are None.

    Raises:
        SettingsError: a value is not allowed; one line per wrong setting.
    """
    given: dict[str, Any] = {name: v for name, v in overrides.items() if v is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = str(item["loc"][0])
            given_as = _OPTIONS.get(name) if name in given else f"{ENV_PREFIX}{name.upper()}"
            lines.append(_sentence(name, given_as or name, item["msg"], item["input"]))
        raise SettingsError("\n".join(lines)) from error


def _sentence(name: str, given_as: str, rule: str, value: object) -> str:
    rule = rule.removeprefix("Value error, ").removeprefix("Input ")
    got = "" if name in _SECRETIVE else f", got {value!r}"
    return f"{given_as}: {rule}{got}"
