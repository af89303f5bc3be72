"""The command line."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.cli import main
from weights.manifest import PACKAGE_DIR

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg")
COMMAND = [sys.executable, "-c", "from server.cli import main; main()"]


@dataclass
class Answer:
    """What a command has left behind."""

    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Answer]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACE_DETAILER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process, which saves the time of importing everything anew."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["face-detailer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        code = ending.value.code
        return Answer(code if isinstance(code, int) else 0, *capfd.readouterr())

    return run


def run_process(*arguments: str) -> Answer:
    """Run a command as a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def refused(answer: Answer) -> str:
    """The one sentence of a command that could not do its work."""
    assert answer.returncode == 1, answer
    lines = answer.stderr.splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("face-detailer: ")
    return lines[0].removeprefix("face-detailer: ")


# --- help ---


def test_help_names_every_command_and_loads_nothing_heavy(cli: Cli) -> None:
    answer = cli("--help")
    assert answer.returncode == 0
    for command in ("serve", "detail", "weights", "keys", "credits"):
        assert re.search(rf"\b{command} ", answer.stdout)
    script = "import sys, server.cli; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ("torch", "numpy", "sqlalchemy", "pydantic", "fastapi", "uvicorn", "httpx")
    loaded = subprocess.run(
        [sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


# --- keys and credits ---


def test_a_key_is_the_last_word_and_lists_show_only_its_beginning(cli: Cli) -> None:
    answer = cli("keys", "create", "--name", "bob", "--credits", "2.5")
    key = answer.stdout.split()[-1]
    assert re.fullmatch(r"SG_[0-9a-f]{40}", key)
    listed = cli("keys", "list").stdout
    assert key[:11] in listed
    assert key not in listed
    assert re.search(r"bob\s+1\s+.*valid", listed)
    assert re.search(r"1\s+bob\s+2\.5\s+0", cli("credits", "show").stdout)


def test_credits_are_added_by_account_or_key(cli: Cli) -> None:
    key = cli("keys", "create", "--credits", "1").stdout.split()[-1]
    assert "has 1.25 credits" in cli("credits", "add", "1", "0.25").stdout
    assert "has 1.5 credits" in cli("credits", "add", key[:11], "0.25").stdout
    assert "has 1.5000000001 credits" in cli("credits", "add", key, "0.0000000001").stdout


def test_a_further_key_shares_the_account_and_a_revoked_one_stays_listed(cli: Cli) -> None:
    first = cli("keys", "create", "--unlimited").stdout.split()[-1]
    second = cli("keys", "create", "--account", "1", "--name", "new").stdout.split()[-1]
    assert cli("keys", "revoke", first).stdout.split() == ["Revoked", f"{first[:11]}…"]
    listed = cli("keys", "list").stdout
    assert re.search(rf"{first[:11]}….*revoked", listed)
    assert re.search(rf"{second[:11]}….*\b1\b.*valid", listed)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["keys", "create"], "Say one of --credits N, --unlimited and --account ID."),
        (["keys", "create", "--credits", "1", "--unlimited"], "Say one of --credits N"),
        (["keys", "create", "--credits", "many"], "Credits should be a number, got many."),
        (["keys", "create", "--credits", "-1"], "Credits should be between 0 and 900000000"),
        (["keys", "create", "--account", "7"], "There is no account 7."),
        (["keys", "revoke", "SG_00"], "No key begins with SG_00"),
        (["credits", "add", "7", "1"], "There is no account 7."),
        (["credits", "add", "SG_00", "1"], "No key begins with SG_00"),
        (["serve", "--port", "65536"], "FACE_DETAILER_PORT: should be less than or equal to"),
        (["serve", "--device", "gpu"], "FACE_DETAILER_DEVICES: should be auto, or cpu"),
        (["weights", "list", "--profile", "huge"], "unknown profile 'huge'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(cli: Cli, arguments: list[str], sentence: str) -> None:
    assert refused(cli(*arguments)).startswith(sentence)


def test_a_wrong_variable_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_DETAILER_UPSCALE", "3")
    assert refused(cli("keys", "list")) == "FACE_DETAILER_UPSCALE: should be 1, 2 or 4, got 3"


# --- weights that are not there ---


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "0"],
        ["detail", "a.jpg", "-o", "b.jpg", "--prompt", "", "--denoise", "0.4"],
        ["detect", EXAMPLE],
    ],
    ids=lambda words: words[0],
)
def test_without_weights_the_sentence_says_what_to_run(cli: Cli, arguments: list[str]) -> None:
    sentence = refused(cli(*arguments, "--profile", "sdxl", "--device", "cpu"))
    assert re.search(r"weights of the profile sdxl are not complete in .+/weights/sdxl", sentence)
    assert sentence.endswith("Run `face-detailer weights pull --profile sdxl`.")


def test_a_file_that_has_gone_is_named_with_what_mends_it(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "weights" / "sdxl"
    shutil.copytree(PACKAGE_DIR / "sdxl", folder)
    sentence = refused(cli("detect", EXAMPLE, "--profile", "sdxl", "--device", "cpu"))
    assert sentence.startswith("detector file is missing: ")
    assert sentence.endswith("`face-detailer weights pull --profile sdxl` mends it.")


# --- serve ---


@dataclass
class Server:
    process: "subprocess.Popen[str]"
    url: str
    first_key: str | None
    log: Path

    def get(self, path: str, key: str = "") -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(self.url + path, headers={"x-api-key": key} if key else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def serving(
    tmp_path: Path,
) -> Callable[[], contextlib.AbstractContextManager[Server]]:
    @contextlib.contextmanager
    def serve() -> Iterator[Server]:
        log = tmp_path / "log"
        arguments = ["serve", "--profile", "tiny", "--device", "cpu", "--port", "0"]
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [*COMMAND, *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            try:
                assert process.stdout is not None
                url = process.stdout.readline().split()[-1]
                fresh = not (tmp_path / "started").exists()
                (tmp_path / "started").touch()
                key = process.stdout.readline().split()[-1] if fresh else None
                yield Server(process, url, key, log)
            finally:
                process.kill()

    return serve


def test_serve_prints_its_address_and_on_the_first_start_a_key_that_works(
    cli: Cli, serving: Callable[[], contextlib.AbstractContextManager[Server]]
) -> None:
    with serving() as server:
        assert server.first_key is not None
        assert server.get("/health") == (200, {"status": "ok"})
        status, credits_left = server.get("/v1/get-user-credits", server.first_key)
        assert (status, credits_left["credits"]) == (200, 1_000_000)
        # Keys come and go while the server runs.
        key = cli("keys", "create", "--credits", "2.5").stdout.split()[-1]
        assert server.get("/v1/get-user-credits", key)[1]["credits"] == 2.5
        cli("keys", "revoke", key[:11])
        assert server.get("/v1/get-user-credits", key)[0] == 401
        # A second server would give back the first one's holds.
        assert "Another server uses the data folder" in refused(run_process("serve", "--port", "0"))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert "SG_" not in server.log.read_text()
    with serving() as again:
        assert again.get("/v1/get-user-credits", server.first_key)[0] == 200
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(timeout=60) == 0
        assert again.process.stdout is not None
        assert again.process.stdout.read() == ""


def test_the_server_process_loads_no_torch(
    serving: Callable[[], contextlib.AbstractContextManager[Server]],
) -> None:
    with serving() as server:
        server.get("/health")
        time.sleep(1)
        assert "torch" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = run_process("serve", "--port", port)
    assert refused(answer) == f"Cannot listen on 127.0.0.1:{port}: Address already in use"
