"""How figures are written to a file."""

import json
from collections.abc import Mapping
from pathlib import Path

from server.cli_models import write_file


def write_json(file: Path, report: Mapping[str, object]) -> None:
    """Renamed when complete."""
    text = json.dumps(report, indent=2, ensure_ascii=False)
    write_file(file, f"{text}\n".encode())
