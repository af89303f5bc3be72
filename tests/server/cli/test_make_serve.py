"""`make serve` and the commands beside it work on the same data."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from server_program import PROGRAM

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(sys.executable).parent


def made_beside(environment: dict[str, str]) -> str:
    command = [PROGRAM, "keys", "create", "--credits", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_key_that_is_made_beside_it_counts(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment |= {"HOME": str(tmp_path), "FACE_DETAILER_PROFILE": "tiny"}
    # As it is, but for the set-up, which these tests run on already.
    command = ["make", "serve", "--old-file=setup", f"BIN={PROGRAMS}", "PORT=0"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while not (found := re.search(r"^Listening on (\S+)$", printed, re.MULTILINE)):
                line = process.stdout.readline()
                assert line, printed
                printed += line
            printed_key = re.search(r"x-api-key: (SG_\w+)' ", printed)
            assert printed_key
            for key in (printed_key[1], made_beside(environment)):
                reply = httpx.get(
                    f"{found[1]}/v1/get-user-credits",
                    headers={"x-api-key": key},
                    timeout=60,
                    trust_env=False,
                )
                assert reply.status_code == 200
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    assert (tmp_path / ".local/share/face-detailer/accounts.sqlite3").exists()
