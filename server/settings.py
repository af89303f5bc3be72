"""The settings, read once from the environment (`FACE_DETAILER_…`). Meanings: docs/settings.md."""

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.errors import OperatorError

ENV_PREFIX = "FACE_DETAILER_"
_HTTP = re.compile(r"https?://[^/\s]+")
# These may hold a password, which no message and no log shows.
_SECRETIVE = ("database_url", "hub_endpoint", "url_mirrors")
# meta: only `face-detailer bench` takes it.
_DEVICE = re.compile(r"cpu|cuda(:\d+)?|mps")
_CREDIT_DECIMALS = 10
_MIB = 1024 * 1024

PROFILE_NAMES = ("auto", "tiny", "sdxl")
MemoryMode = Literal["auto", "resident", "offload", "low"]
LogLevel = Literal["debug", "info", "warning", "error"]
Credits = Annotated[
    Decimal, Field(ge=0, le=900_000_000, decimal_places=_CREDIT_DECIMALS, allow_inf_nan=False)
]


class SettingsError(OperatorError):
    """A setting has a value that it does not allow: variable, rule, value."""


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "face-detailer"


class Settings(BaseSettings):
    """All settings. Each is an environment variable: `FACE_DETAILER_` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, env_ignore_empty=True)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    public_base_url: str | None = None
    log_level: LogLevel = "info"

    data_dir: Path = Field(default_factory=_default_data_dir)
    database_url: Annotated[str | None, Field(repr=False)] = None

    profile: str = "auto"
    devices: Annotated[Literal["auto"] | tuple[str, ...], NoDecode] = "auto"
    memory_mode: MemoryMode = "auto"
    worker_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    queue_size: Annotated[int, Field(ge=1, le=10_000)] = 32
    request_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    shutdown_grace_s: Annotated[float, Field(ge=0, le=3600)] = 20.0

    max_body_bytes: Annotated[int, Field(ge=1024, le=1024 * _MIB)] = 50 * _MIB
    max_image_pixels: Annotated[int, Field(ge=1, le=500_000_000)] = 50_000_000
    max_side_px: Annotated[int, Field(ge=64, le=32_768)] = 8192

    upscale: Literal[1, 2, 4] = 2
    max_faces: Annotated[int, Field(ge=0, le=1000)] = 20
    min_face_px: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] = 12.0
    detection_threshold: Annotated[float, Field(ge=0, le=1)] | None = None

    fetch_private_addresses: bool = False
    fetch_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    fetch_max_bytes: Annotated[int, Field(ge=1024, le=1024 * _MIB)] = 50 * _MIB

    hub_endpoint: Annotated[str | None, Field(repr=False)] = None
    url_mirrors: Annotated[tuple[tuple[str, str], ...] | None, NoDecode, Field(repr=False)] = None

    cost_per_sample: Credits = Decimal("0.01")
    unlimited_credits_shown: Credits = Decimal(1_000_000)
    rate_limit_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, profile: str) -> str:
        if profile in PROFILE_NAMES:
            return profile
        if not profile.endswith(".toml"):
            raise ValueError(
                "should be auto, tiny, sdxl or a profile file, whose name ends in .toml"
            )
        return str(Path(profile).expanduser().absolute())

    @field_validator("devices", mode="before")
    @classmethod
    def _split_devices(cls, value: object) -> object:
        if not isinstance(value, str) or value.strip() == "auto":
            return value.strip() if isinstance(value, str) else value
        return tuple(name.strip() for name in value.split(","))

    @field_validator("devices")
    @classmethod
    def _known_devices(cls, devices: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(devices, tuple) and not (
            devices and all(_DEVICE.fullmatch(name) for name in devices)
        ):
            raise ValueError("should be auto, or cpu, mps, cuda or cuda:N, several split by commas")
        return devices

    @field_validator("upscale", mode="before")
    @classmethod
    def _upscale_from_text(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.strip().isdecimal() else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"(sqlite|postgresql)(\+\w+)?://", url):
            raise ValueError("should start with sqlite:// or postgresql://")
        return url

    @field_validator("url_mirrors", mode="before")
    @classmethod
    def _split_mirrors(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [tuple(pair.split("=", 1)) for pair in re.split(r"[\s,]+", value.strip())]
        if not all(len(pair) == 2 and all(map(_HTTP.match, pair)) for pair in pairs):
            raise ValueError("should be OLD=NEW, both the beginnings of http(s) addresses")
        return tuple(pairs)

    @field_validator("public_base_url", "hub_endpoint")
    @classmethod
    def _base_url(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", url):
            raise ValueError("should be an http:// or https:// address without query or fragment")
        return url.rstrip("/") if url is not None else None

    def make_data_dir(self) -> Path:
        """The data folder, created for its owner alone (0700) where it was missing."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.data_dir


def read_settings(**overrides: object) -> Settings:
    """The environment's settings; `overrides` win over it, except those that are None.

    Raises:
        SettingsError: a value is not allowed; one line per wrong setting.
    """
    given: dict[str, Any] = {name: v for name, v in overrides.items() if v is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [
            _sentence(str(item["loc"][0]), item["msg"], item["input"]) for item in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from error


def _sentence(name: str, rule: str, value: object) -> str:
    rule = rule.removeprefix("Value error, ").removeprefix("Input ")
    got = "" if name in _SECRETIVE else f", got {value!r}"
    return f"{ENV_PREFIX}{name.upper()}: {rule}{got}"
