"""How the log looks: one line per record, as text or as JSON, on standard error."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from server.setting_values import LogFormat, LogLevel

_FORMAT: Final = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_DATE_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"
_FIELDS: Final = "fields"


def configure(level: LogLevel, log_format: LogFormat = "text") -> None:
    """Send everything at or above `level` to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines(_FORMAT, _DATE_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # At "info" these say what only their own developers want to know.
    for name in ("alembic", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def with_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """The `extra` of a record that says more than its message: text and numbers by name."""
    return {_FIELDS: dict(fields)}


class TextLines(logging.Formatter):
    """Fields follow the message as `name=value`; values that are not plain words, as JSON texts."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The record's first line."""
        fields: Mapping[str, object] = getattr(record, _FIELDS, {})
        words = [super().formatMessage(record)]
        words += [f"{name}={_word(value)}" for name, value in fields.items()]
        return " ".join(words)


class JsonLines(logging.Formatter):
    """One object a record: `time`, `level`, `logger`, `message`, its fields, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _word(value: object) -> str:
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=')
    return text if plain and text else json.dumps(text)
