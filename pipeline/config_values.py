"""The kinds of value that a profile's keys take.

Each has a description of what it allows: the errors quote it, and docs/weights.md lists it.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError


def disagreement(key: str) -> PydanticCustomError:
    """The error for a value that is allowed by itself, but not beside another of its table."""
    return PydanticCustomError("disagreement", "{key} does not fit the other values", {"key": key})


def is_word(text: str) -> bool:
    """Whether a prompt can have it as a word of its own."""
    return re.fullmatch(_WORD, text) is not None


def _stay_inside(path: str) -> str:
    """A relative path may not lead out of the profile's folder."""
    depth = 0
    for part in () if PurePosixPath(path).is_absolute() else PurePosixPath(path).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise ValueError(path)
    return path


def _ascend(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if list(numbers) != sorted(set(numbers)):
        raise ValueError(numbers)
    return numbers


def _can_double(weights: dict[int, str]) -> dict[int, str]:
    """A picture is enlarged by 4 by doubling it twice, if need be; but not the other way round."""
    if 2 not in weights or weights.keys() - {2, 4}:
        raise ValueError(weights)
    return weights


TABLE: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How each table of a profile is read."""

_INSIDE = "inside the profile's folder, or an absolute path"
_LARGEST_WORK_PX = 2048

# What prompts have a meaning for is left out.
_WORD = r"[^\s()\[\]:,\\]{1,64}"

_Path = Annotated[str, Field(min_length=1), AfterValidator(_stay_inside)]
File = Annotated[_Path, Field(description=f"a file {_INSIDE}")]
Folder = Annotated[_Path, Field(description=f"a folder {_INSIDE}")]
OptionalFile = Annotated[_Path | None, Field(description=f"a file {_INSIDE}")]
OptionalFolder = Annotated[_Path | None, Field(description=f"a folder {_INSIDE}")]
UpscalerFiles = Annotated[
    dict[int, _Path],
    AfterValidator(_can_double),
    Field(description=f"a table with the key 2, and perhaps 4, each a file {_INSIDE}"),
]

Name = Annotated[str, Field(min_length=1, description="a text that is not empty")]
Note = Annotated[
    str,
    Field(pattern=r"^[ -~]{0,200}$", description="a line of ASCII text, 200 characters at most"),
]
Token = Annotated[
    str,
    Field(
        pattern=rf"^({_WORD})?$",
        description="a word of 64 characters at most, without blanks and any of `()[]:,\\`",
    ),
]
Switch = Annotated[bool, Strict(), Field(description="true or false")]

Share = Annotated[float, Strict(), Field(ge=0, le=1, description="a number from 0 to 1")]
PositiveShare = Annotated[
    float, Strict(), Field(gt=0, le=1, description="a number above 0, up to 1")
]
Feather = Annotated[float, Strict(), Field(ge=0, le=0.5, description="a number from 0 to 0.5")]
GuidanceShare = Annotated[float, Strict(), Field(ge=0, le=10, description="a number from 0 to 10")]
LoraScale = Annotated[float, Strict(), Field(ge=-10, le=10, description="a number from -10 to 10")]
ControlScale = Annotated[float, Strict(), Field(ge=0, le=2, description="a number from 0 to 2")]
CropFactor = Annotated[
    float,
    Strict(),
    Field(ge=1, le=10, description="a number from 1 to 10, and at least 1 + 2 · grow"),
]

ToldSide = Annotated[
    int, Strict(), Field(ge=0, le=4096, description="a whole number from 0 to 4096")
]
InputSide = Annotated[
    int, Strict(), Field(ge=64, le=4096, description="a whole number from 64 to 4096")
]
TileSide = Annotated[
    int,
    Strict(),
    Field(ge=0, le=4096, multiple_of=8, description="0, or a multiple of 8 up to 4096"),
]
WorkSizes = Annotated[
    tuple[Annotated[int, Strict(), Field(ge=64, le=_LARGEST_WORK_PX, multiple_of=64)], ...],
    AfterValidator(_ascend),
    Field(min_length=1, description=f"ascending multiples of 64, {_LARGEST_WORK_PX} at most"),
]
OptionalWorkSizes = Annotated[
    WorkSizes | None,
    Field(description=f"ascending multiples of 64, {_LARGEST_WORK_PX} at most"),
]
BatchSizes = Annotated[
    tuple[Annotated[int, Strict(), Field(ge=1, le=1024)], ...],
    AfterValidator(_ascend),
    Field(min_length=1, description="ascending whole numbers from 1 to 1024"),
]
