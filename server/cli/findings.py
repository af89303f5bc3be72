"""What `face-detailer doctor` has found, and what it looks at."""

from dataclasses import dataclass
from typing import Any, Literal

from server.settings import Settings

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy`: what helps, unless it is "ok"."""

    name: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks share. `torch`: what a child process said of it, None if it said nothing."""

    settings: Settings
    torch: dict[str, Any] | None
    torch_error: str
