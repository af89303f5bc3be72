"""`face-detailer detail` and `detect` with `--url`: a server does it, and nothing is loaded."""

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import PIL.Image
import pytest

ROOT = Path(__file__).parents[2]
DAMAGED = ROOT / "examples" / "astronaut-damaged.jpg"
COMMAND = [sys.executable, "-P", "-c", "from server.cli.main import main; main()"]


@pytest.fixture
def remote(environment, server_url, new_key, tmp_path):
    """Start a command that talks to the server."""

    def start(*arguments, credits_=1, stderr=subprocess.PIPE, **variables):
        key = new_key(credits_)
        here = environment | {
            "FACE_DETAILER_URL": server_url,
            "FACE_DETAILER_KEY": key,
            "FACE_DETAILER_DATA_DIR": str(tmp_path / "data"),
            **variables,
        }
        return key, subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=here,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    return start


def credits_of(server_url, key):
    headers = {"x-api-key": key}
    reply = httpx.get(f"{server_url}/v1/get-user-credits", headers=headers, trust_env=False)
    return reply.json()["credits"]


@pytest.mark.slow
def test_a_folder_goes_to_the_server_and_is_paid_once(remote, server_url, tmp_path, picture):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "face.jpg").write_bytes(DAMAGED.read_bytes())
    (folder / "none.png").write_bytes(picture)
    key, process = remote("detail", "in", "-o", "out", "--upscale", "1", "--json")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    told = {Path(line["source"]).name: line for line in map(json.loads, out.splitlines())}
    assert {name: line["faces"]["found"] for name, line in told.items()} == {
        "face.jpg": 1,
        "none.png": 0,
    }
    assert told["face.jpg"]["cost"] == 0.01
    with PIL.Image.open(tmp_path / "out" / "face.jpg") as image:
        assert image.size == (512, 512)
    assert credits_of(server_url, key) == 0.98
    key, process = remote("detail", "in", "-o", "out", "--upscale", "1")
    out, _ = process.communicate(timeout=120)
    assert out.count("finished before, skipped") == 2
    assert credits_of(server_url, key) == 1


@pytest.mark.slow
def test_what_the_account_cannot_pay_stops_nothing_that_runs(remote, server_url, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(DAMAGED.read_bytes())
    options = ("--upscale", "1", "--jobs", "2")
    key, process = remote("detail", "in", "-o", "out", *options, credits_=0.01)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "face-detailer: Not enough credits\n")
    assert out.count("→") == len(list((tmp_path / "out").iterdir())) == 1
    assert credits_of(server_url, key) == 0


def test_faces_are_listed_by_the_server(remote):
    _, process = remote("detect", DAMAGED, "--overlay", "drawn.png")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("1 face.\n")
    assert "Drawn into drawn.png" in out


@pytest.mark.parametrize(
    ("options", "variables", "code", "sentence"),
    [
        (
            (),
            {"FACE_DETAILER_KEY": "SG_no"},
            1,
            "Unauthorized. API key is invalid or may have expire",
        ),
        (("--url", "http://127.0.0.1:1"), {}, 1, "http://127.0.0.1:1 cannot be reached: "),
        (("--max-faces", "50"), {}, 1, "photo.jpg: max_faces should be between 0 and 20"),
        (("--steps", "steps"), {}, 2, "--steps shows what this machine does: it does not go with"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(
    remote, tmp_path, options, variables, code, sentence
):
    (tmp_path / "photo.jpg").write_bytes(DAMAGED.read_bytes())
    _, process = remote("detail", "photo.jpg", *options, **variables)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    (line,) = err.splitlines()
    assert line.startswith(f"face-detailer: {sentence}")


@pytest.mark.slow
def test_ctrl_c_cancels_what_is_running(remote, environment, server_url, tmp_path):
    """In a terminal, whose bar says when the server is at work."""
    large = tmp_path / "large.png"
    with PIL.Image.open(DAMAGED) as image:
        image.resize((2048, 2048)).save(large)
    ours, theirs = pty.openpty()
    key, process = remote("detail", large, "--upscale", "4", stderr=theirs, TERM="xterm")
    os.close(theirs)
    shown = b""
    while not re.search(rb"detecting|1 face|upscaling", shown):
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert (process.returncode, out) == (130, "")
    assert credits_of(server_url, key) == 1
    assert not large.with_name("large-detailed.png").exists()
    file = Path(environment["FACE_DETAILER_DATA_DIR"]) / "accounts.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as database:
        newest = "SELECT cancelled, error FROM jobs ORDER BY created_ms DESC LIMIT 1"
        assert database.execute(newest).fetchone() == (1, "Request was cancelled")
    # What was cancelled is no answer: the same command begins it again.
    out, err = remote("detail", large, FACE_DETAILER_KEY=key)[1].communicate(timeout=120)
    assert "1 face, " in out, err
    assert credits_of(server_url, key) == 0.99


@pytest.mark.slow
def test_a_killed_run_pays_once(remote, environment, server_url, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(DAMAGED.read_bytes())
    file = Path(environment["FACE_DETAILER_DATA_DIR"]) / "accounts.sqlite3"

    def jobs():
        with contextlib.closing(sqlite3.connect(file)) as database:
            ((count,),) = database.execute("SELECT count(*) FROM jobs")
        return count

    before = jobs()
    key, process = remote("detail", "photo.jpg", "--upscale", "1")
    while jobs() == before and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "photo-detailed.jpg").exists()
    again = ("detail", "photo.jpg", "--upscale", "1")
    out, err = remote(*again, FACE_DETAILER_KEY=key)[1].communicate(timeout=120)
    assert "0.01 credits" in out, err
    assert (jobs(), credits_of(server_url, key)) == (before + 1, 0.99)
    # Once it is there, to ask for it again is to ask for new work.
    out, _ = remote(*again, FACE_DETAILER_KEY=key)[1].communicate(timeout=120)
    assert (jobs(), credits_of(server_url, key)) == (before + 2, 0.98)
    # So it is once it was there, as when somebody has moved it away.
    (tmp_path / "photo-detailed.jpg").rename(tmp_path / "elsewhere.jpg")
    out, _ = remote(*again, FACE_DETAILER_KEY=key)[1].communicate(timeout=120)
    assert (jobs(), credits_of(server_url, key)) == (before + 3, 0.97)
