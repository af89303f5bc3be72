"""The kinds of values that settings have: what text they are read from, and what they allow.

`allowed` and `unit` are for docs/settings.md, where range or choices do not say enough.
"""

import ipaddress
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from weights.manifest import EMBEDDED, FETCHED

_MIB = 1024 * 1024
_CREDIT_DECIMALS = 10
_HTTP = re.compile(r"https?://[^/\s]+")
# `face-detailer bench` alone takes "meta" too.
_DEVICE = re.compile(r"cpu|cuda(:\d+)?|mps")
_PROFILE_NAMES = ("auto", *EMBEDDED, *FETCHED)
_HTTP_ALLOWED = "`http://…` or `https://…`"


def _base_url(url: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", url):
        raise ValueError("should be an http:// or https:// address without query or fragment")
    return url.rstrip("/")


def _database(url: str) -> str:
    if not re.match(r"(sqlite|postgresql)(\+\w+)?://", url):
        raise ValueError("should start with sqlite:// or postgresql://")
    return url


def _profile(profile: str) -> str:
    if profile in _PROFILE_NAMES:
        return profile
    if not profile.endswith(".toml"):
        names = ", ".join(_PROFILE_NAMES)
        raise ValueError(f"should be {names} or a profile file, whose name ends in .toml")
    return str(Path(profile).expanduser().absolute())


def _split_devices(value: object) -> object:
    if not isinstance(value, str) or value.strip() == "auto":
        return value.strip() if isinstance(value, str) else value
    return tuple(name.strip() for name in value.split(","))


def _devices(devices: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(devices, tuple) and not (
        devices and all(_DEVICE.fullmatch(name) for name in devices)
    ):
        raise ValueError("should be auto, or cpu, mps, cuda or cuda:N, several split by commas")
    return devices


def _split_mirrors(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [tuple(pair.split("=", 1)) for pair in re.split(r"[\s,]+", value.strip())]
    if not all(len(pair) == 2 and all(map(_HTTP.match, pair)) for pair in pairs):
        raise ValueError("should be OLD=NEW, both the beginnings of http(s) addresses")
    return tuple(pairs)


def _split_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part for part in re.split(r"[\s,]+", value.strip()) if part)


def _proxies(proxies: tuple[str, ...]) -> tuple[str, ...]:
    for proxy in proxies:
        try:
            if proxy != "*":
                ipaddress.ip_network(proxy)
        except ValueError as error:
            raise ValueError("should be IP addresses or networks, or *") from error
    return proxies


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if not all(o == "*" or re.fullmatch(r"https?://[^/\s?#]+", o) for o in origins):
        raise ValueError("should be origins such as https://app.example, without a path, or *")
    return origins


def _number_from_text(value: object) -> object:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _lower_case(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _identity(value: object) -> object:
    """In whichever case; a number is a threshold."""
    text = str(value).lower()
    if text in ("off", "on"):
        return text
    try:
        threshold = float(text)
    except ValueError:
        threshold = 0.0
    # 0 would be everybody's, and 1 nobody's: who writes these means off and on.
    if not 0 < threshold < 1:
        raise ValueError("should be off, on, or a number between 0 and 1")
    return threshold


def _absolute(folder: Path) -> Path:
    return folder.expanduser().absolute()


MOST_CREDITS: Final = 900_000_000
"""What an account can have."""

MemoryMode = Literal["auto", "resident", "offload", "low"]
CompileMode = Literal["off", "regional", "full"]
Identity = Annotated[
    Literal["off", "on"] | float,
    BeforeValidator(_identity),
    Field(json_schema_extra={"allowed": "`off`, `on`, or a number between 0 and 1"}),
]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
LogFormatText = Annotated[LogFormat, BeforeValidator(_lower_case)]
LogLevelText = Annotated[LogLevel, BeforeValidator(_lower_case)]

Host = Annotated[
    str, Field(min_length=1, json_schema_extra={"allowed": "an address or a host name"})
]
Port = Annotated[int, Field(ge=0, le=65535)]
BaseUrl = Annotated[
    str, AfterValidator(_base_url), Field(json_schema_extra={"allowed": _HTTP_ALLOWED})
]
Folder = Annotated[
    Path, AfterValidator(_absolute), Field(json_schema_extra={"allowed": "a folder"})
]
DatabaseUrl = Annotated[
    str,
    AfterValidator(_database),
    Field(json_schema_extra={"allowed": "`sqlite:///…` or `postgresql://…`"}),
]
Profile = Annotated[
    str,
    AfterValidator(_profile),
    Field(json_schema_extra={"allowed": f"`{'`, `'.join(_PROFILE_NAMES)}`, a file `….toml`"}),
]
Devices = Annotated[
    Literal["auto"] | tuple[str, ...],
    NoDecode,
    BeforeValidator(_split_devices),
    AfterValidator(_devices),
    Field(
        json_schema_extra={
            "allowed": "`auto`, or `cpu`, `mps`, `cuda`, `cuda:N`, separated by commas"
        }
    ),
]
Mirrors = Annotated[
    tuple[tuple[str, str], ...] | None,
    NoDecode,
    BeforeValidator(_split_mirrors),
    Field(json_schema_extra={"allowed": "`OLD=NEW`, several separated by commas or spaces"}),
]
Proxies = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_split_list),
    AfterValidator(_proxies),
    Field(json_schema_extra={"allowed": "addresses and networks, separated by commas, or `*`"}),
]
Origins = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_split_list),
    AfterValidator(_origins),
    Field(json_schema_extra={"allowed": "`https://…`, several separated by commas, or `*`"}),
]
Token = Annotated[
    str,
    Field(
        pattern=r"^[!-~]{16,200}$",
        json_schema_extra={"allowed": "16 to 200 printable ASCII characters, without blanks"},
    ),
]
Upscale = Annotated[Literal[1, 2, 4], BeforeValidator(_number_from_text)]
Bytes = Annotated[int, Field(ge=1024, le=1024 * _MIB, json_schema_extra={"unit": "bytes"})]
Credits = Annotated[
    Decimal,
    Field(
        ge=0,
        le=MOST_CREDITS,
        decimal_places=_CREDIT_DECIMALS,
        allow_inf_nan=False,
        json_schema_extra={"unit": f"credits, {_CREDIT_DECIMALS} decimal places"},
    ),
]
