"""Other processes of the command line, beside the test."""

import subprocess
import sys
from pathlib import Path

_CLAIMING = """
import sys
from pathlib import Path
from server.cli.claims import Claims
from server.settings import Settings
with Claims(Settings(data_dir=Path(sys.argv[1]))).claimed(Path(sys.argv[2])) as is_ours:
    print(is_ours, flush=True)
    sys.stdin.read()
"""


def claimed_by_another(data: Path, output: Path) -> "subprocess.Popen[str]":
    """A process that claims a result until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIMING, str(data), str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process
