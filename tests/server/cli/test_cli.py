"""The command line."""

import contextlib
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from server.api.contract import DETECT_FIELDS, FIELDS
from server.api.fields import Field
from server.cli import detail
from server.cli.main import main
from weights.manifest import PACKAGE_DIR

EXAMPLE = str(Path(__file__).parents[3] / "examples" / "astronaut-damaged.jpg")
COMMAND = [sys.executable, "-c", "from server.cli.main import main; main()"]


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


def refused(answer: Answer, code: int = 1) -> str:
    """The one sentence of a command that could not do its work, and ends with this exit code."""
    assert answer.returncode == code, answer
    lines = [line for line in answer.stderr.splitlines() if not line.startswith("Loading profile ")]
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("face-detailer: ")
    return lines[0].removeprefix("face-detailer: ")


# --- help ---


def test_help_names_every_command_and_loads_nothing_heavy(cli: Cli) -> None:
    answer = cli("--help")
    assert answer.returncode == 0
    for command in ("serve", "detail", "weights", "keys", "credits"):
        assert re.search(rf"\b{command} ", answer.stdout)
    script = "import sys, server.cli.main; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ("torch", "numpy", "rich", "sqlalchemy", "pydantic", "fastapi", "uvicorn", "httpx")
    loaded = subprocess.run(
        [sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("detail", [f for f in FIELDS if f.name not in ("image", "base64")]),
        ("detect", [f for f in DETECT_FIELDS if f.name not in ("image", "image_format")]),
    ],
)
def test_help_shows_every_field_with_its_values_and_default(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, fields: list[Field]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = cli(command, "--help").stdout
    assert max(map(len, text.partition("Examples:")[0].splitlines())) <= 80
    assert "…" not in text.replace("cuda:0, …", "")
    options = dict(re.findall(r"^  (?:-\w, )?(--[\w-]+)(.*(?:\n {6,}.*)*)", text, re.MULTILINE))
    for field in fields:
        said = " ".join(options[f"--{field.name.replace('_', '-')}"].split())
        if field.name == "overlay":
            continue
        assert field.help.replace("`", "").rstrip(".") in said
        assert "|".join(field.choices) in said
        assert field.low is None or field.allowed_texts[0] in said
        if field.name in detail.PRESETS:
            assert f"default: {detail.PRESETS[field.name]})" in said
        elif field.name != "image_format":
            assert f"default: {field.default_text})" in said


def test_help_is_asked_for_in_two_ways_and_shows_examples(cli: Cli) -> None:
    for command in ((), ("serve",), ("detail",), ("detect",)):
        long, short = cli(*command, "--help"), cli(*command, "-h")
        assert (long.returncode, long.stdout) == (short.returncode, short.stdout)
        examples = long.stdout.partition("Examples:")[2]
        assert f"  face-detailer {' '.join(command)}" in examples
    everything = cli("--help").stdout
    assert "Exit codes: 0 done, 1 not" in " ".join(everything.split())
    assert "..." not in everything.partition("Commands:")[2].partition("Examples:")[0]
    assert "default: sdxl" in cli("weights", "verify", "--help").stdout
    assert "none,light,medium,heavy" in cli("eval", "restore", "--help").stdout
    assert '{"a.jpg": [{"box": [x0, y0, x1, y1]}]}' in " ".join(
        cli("eval", "detect", "--help").stdout.split()
    )


def test_the_version(cli: Cli) -> None:
    answer = cli("--version")
    assert (answer.returncode, answer.stdout) == (0, f"face-detailer {version('face-detailer')}\n")


def test_a_shell_completes_commands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FACE_DETAILER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "face-detailer de")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert cli().stdout.split() == ["detail", "detect"]
    monkeypatch.delenv("_FACE_DETAILER_COMPLETE")
    assert "--install-completion" in cli("--help").stdout


def test_a_command_that_cannot_be_understood_ends_with_two(cli: Cli) -> None:
    assert cli("detail").returncode == 2
    assert cli("detial").returncode == 2
    assert cli("detail", "a.jpg", "--samples").returncode == 2


# --- variables and doctor ---


def test_a_misspelt_variable_is_named_with_the_right_name(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACE_DETAILER_PROFLIE", "tiny")
    monkeypatch.setenv("FACE_DETAILER_COFFEE\x1b[31m", "1")
    monkeypatch.setenv("FACE_DETAILER_KEY", "right")
    sentences = [
        "face-detailer: FACE_DETAILER_COFFEE\\x1b[31m is no setting, and has no effect.",
        "face-detailer: FACE_DETAILER_PROFLIE is no setting: did you mean FACE_DETAILER_PROFILE?",
    ]
    for arguments in (("detail", "a"), ("detect", "a"), ("serve", "--device", "gpu")):
        assert cli(*arguments).stderr.splitlines()[:-1] == sentences
    findings = json.loads(cli("doctor", "--json", "--device", "cpu").stdout)
    said = [finding["text"] for finding in findings if finding["name"] == "settings"]
    assert said == [sentence.removeprefix("face-detailer: ") for sentence in sentences]


@pytest.mark.slow
def test_doctor_looks_at_everything(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        well = cli("doctor", "--profile", "tiny", "--device", "cpu")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("FACE_DETAILER_PORT", str(port))
            environment.setenv("FACE_DETAILER_DATA_DIR", "/proc/data")
            ill = cli("doctor", "--profile", "sdxl", "--device", "cpu", "--json")
    lines = {line.split()[1]: line.split()[0] for line in well.stdout.splitlines()}
    assert {"python", "torch", "gpu", "memory", "disk", "weights"} <= lines.keys()
    assert {"port", "data", "keys", "clock"} <= lines.keys()
    assert (lines["python"], lines["torch"], lines["weights"]) == ("ok", "ok", "ok")
    assert not (tmp_path / "data").exists()
    findings = {finding["name"]: finding for finding in json.loads(ill.stdout)}
    assert ill.returncode == 1
    failed = {name for name, finding in findings.items() if finding["state"] == "failed"}
    assert failed == {"weights", "port", "data"}
    sentence = f"`serve` cannot listen on 127.0.0.1:{port}: Address already in use"
    assert findings["port"]["text"] == sentence
    assert findings["data"]["text"].startswith("/proc/data cannot be written: ")
    assert "is not there yet: the first command that needs it makes it" in well.stdout
    assert all(finding["remedy"] for name, finding in findings.items() if name in failed)
    assert findings["weights"]["text"].endswith("weights pull --profile sdxl`.")


def test_doctor_says_which_setting_is_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_DETAILER_UPSCALE", "3")
    answer = cli("doctor")
    assert answer.returncode == 1
    assert "FACE_DETAILER_UPSCALE: should be 1, 2 or 4, got 3" in answer.stdout


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


def test_the_audit_ends_well_or_names_what_is_wrong(cli: Cli, tmp_path: Path) -> None:
    cli("keys", "create", "--credits", "2.5")
    answer = cli("credits", "audit")
    said = "1 accounts: every balance is the sum of its entries.\n"
    assert (answer.returncode, answer.stdout) == (0, said)
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "accounts.sqlite3")) as books:
        books.execute("UPDATE accounts SET balance_units = 0")
        books.commit()
    answer = cli("credits", "audit")
    said = "Account 1 has 0 credits, and its entries sum up to 2.5.\n"
    assert (answer.returncode, answer.stdout) == (1, said)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["keys", "create"], 2, "Give exactly one of --credits N, --unlimited and --account ID."),
        (["keys", "create", "--credits", "1", "--unlimited"], 2, "Give exactly one of --credits N"),
        (["keys", "create", "--credits", "many"], 2, "Credits should be a number, got many."),
        (["keys", "create", "--credits", "-1"], 2, "Credits should be between 0 and 900000000"),
        (["keys", "create", "--account", "7"], 1, "There is no account 7."),
        (["keys", "revoke", "SG_00"], 1, "No key begins with SG_00"),
        (["credits", "add", "7", "1"], 1, "There is no account 7."),
        (["credits", "add", "SG_00", "1"], 1, "No key begins with SG_00"),
        (
            ["webhooks", "set", "SG_00", "http://["],
            2,
            "http://[ should be an http:// or https:// add",
        ),
        (
            ["webhooks", "test", "http://a.example:0/"],
            2,
            "http://a.example:0/ should be an http://",
        ),
        (["webhooks", "set", "SG_00", "https://a.example"], 1, "No key begins with SG_00"),
        (["serve", "--port", "65536"], 2, "--port: should be less than or equal to"),
        (
            ["serve", "--device", "mps"],
            1,
            "The device mps is of Apple's machines: try --device cpu.",
        ),
        (
            ["bench", "--json", "/proc/a.json", "--weights", "random", "--device", "meta"],
            1,
            "Nothing can be written to /proc: ",
        ),
        (
            ["eval", "detect", "--data", "x", "--json", "/proc/a.json"],
            1,
            "Nothing can be written to /proc: ",
        ),
        (["serve", "--device", "gpu"], 2, "--device: should be auto, or cpu"),
        (["weights", "list", "--profile", "huge"], 2, "--profile: unknown profile 'huge'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    cli: Cli, arguments: list[str], code: int, sentence: str
) -> None:
    assert refused(cli(*arguments), code).startswith(sentence)


HUGE = ("9223372036854775808", "9" * 30, "9" * 5000)
BROKEN = "a\udcff"


@pytest.mark.parametrize("account", HUGE, ids=["64-bit", "long", "longest"])
def test_a_number_that_no_account_can_have_is_one_sentence(cli: Cli, account: str) -> None:
    sentence = f"There is no account {account}."
    assert refused(cli("credits", "add", account, "1")) == sentence
    if len(account) < 1000:
        made = cli("keys", "create", "--account", account)
        assert refused(made) == sentence


@pytest.mark.parametrize("name", [BROKEN, "a\x1b[31mb", "a\nb", "\u202eb", "x" * 201])
def test_a_name_that_cannot_be_shown_is_refused(cli: Cli, name: str) -> None:
    sentence = "A name should have at most 200 characters, all of them printable."
    first = cli("keys", "create", "--name", "ü 脸 😀", "--unlimited")
    assert first.returncode == 0
    for account in ("--unlimited", "--credits=1", "--account=1"):
        made = cli("keys", "create", "--name", name, account)
        assert refused(made, 2) == sentence
    assert "ü 脸 😀" in cli("keys", "list").stdout


@pytest.mark.parametrize("key", [BROKEN, "SG_ä", "SG_\x1b[31m"])
def test_a_key_that_cannot_be_is_one_sentence(cli: Cli, key: str) -> None:
    for arguments in (
        ("keys", "revoke", key),
        ("credits", "add", key, "1"),
        ("webhooks", "secret", key),
    ):
        text = refused(cli(*arguments))
        assert text.startswith("No key begins with ")
        assert text.isprintable()


def test_control_characters_of_names_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    assert cli("keys", "create", "--name", "somebody", "--credits", "1").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "accounts.sqlite3")) as database:
        for table in ("accounts", "api_keys"):
            database.execute(f"UPDATE {table} SET name = 'a' || char(27) || '[2J' || char(8)")
        database.commit()
    for arguments in (("keys", "list"), ("credits", "show"), ("credits", "add", "1", "1")):
        answer = cli(*arguments)
        assert answer.returncode == 0
        assert r"a\x1b[2J\x08" in answer.stdout
        assert "\x1b[2J" not in answer.stdout


def test_a_wrong_variable_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_DETAILER_UPSCALE", "3")
    sentence = "FACE_DETAILER_UPSCALE: should be 1, 2 or 4, got 3"
    assert refused(cli("keys", "list"), 2) == sentence


# --- weights that are not there ---


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "0"],
        ["detail", EXAMPLE, "-o", "b.jpg"],
        ["detect", EXAMPLE],
    ],
    ids=lambda words: words[0],
)
def test_a_wrong_profile_is_one_sentence(cli: Cli, arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'base = "{PACKAGE_DIR}/tiny/profile.toml"\n[detail]\nfeather = 2\n')
    assert refused(cli(*arguments, "--profile", str(file), "--device", "cpu")) == (
        f"{file}: detail.feather should be a number from 0 to 0.5, got 2"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "0"],
        ["detail", EXAMPLE, "-o", "b.jpg"],
        ["detect", EXAMPLE],
    ],
    ids=lambda words: words[0],
)
def test_without_weights_the_sentence_says_what_to_run(cli: Cli, arguments: list[str]) -> None:
    sentence = refused(cli(*arguments, "--profile", "sdxl", "--device", "cpu"))
    assert re.search(r"weights of the profile sdxl are not complete in .+/weights/sdxl", sentence)
    assert sentence.endswith("Run `face-detailer weights pull --profile sdxl`.")


def test_a_file_that_has_gone_is_named_with_what_repairs_it(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "weights" / "sdxl"
    shutil.copytree(PACKAGE_DIR / "sdxl", folder)
    sentence = refused(cli("detect", EXAMPLE, "--profile", "sdxl", "--device", "cpu"))
    assert sentence.startswith("detector file is missing: ")
    assert sentence.endswith("`face-detailer weights pull --profile sdxl` repairs it.")


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


def ready_text(url: str, key: str) -> str:
    """What is printed once the server is ready."""
    return (
        f"Ready. Open {url}/ in a browser, or try it with a picture of your own:\n\n"
        f'  curl --fail-with-body -H "x-api-key: {key}" -F image=@photo.jpg '
        '-F prompt="detailed face" \\\n'
        f"      -F denoise=0.4 -F base64=false -o result.jpg {url}/v1/face-detailer\n\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_call_that_is_printed_when_it_is_ready_works_as_it_is(
    serving: Callable[[], contextlib.AbstractContextManager[Server]], tmp_path: Path
) -> None:
    shutil.copy(EXAMPLE, tmp_path / "photo.jpg")
    with serving() as server:
        assert server.first_key is not None
        assert server.process.stdout is not None
        text = ready_text(server.url, server.first_key)
        printed = "".join(server.process.stdout.readline() for _ in text.splitlines())
        assert printed == text
        command = printed.partition("\n\n")[2]
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "result.jpg").read_bytes().startswith(b"\xff\xd8")
        broken = command.replace("denoise=0.4", "denoise=4")
        done = subprocess.run(["bash", "-c", broken], cwd=tmp_path, capture_output=True)
        assert done.returncode == 22


@pytest.mark.slow
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
        assert server.process.stdout.read() in ("", ready_text(server.url, server.first_key))
        assert "SG_" not in server.log.read_text()
    with serving() as again:
        assert again.get("/v1/get-user-credits", server.first_key)[0] == 200
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(timeout=60) == 0
        assert again.process.stdout is not None
        assert again.process.stdout.read() in ("", ready_text(again.url, "$KEY"))


def test_serve_says_where_clients_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_DETAILER_PUBLIC_BASE_URL", "https://faces.example/api/")
    arguments = ["serve", "--profile", "tiny", "--device", "cpu", "--port", "0"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Listening on http://127.0.0.1:")
            assert process.stdout.readline() == "Clients reach it at https://faces.example/api\n"
        finally:
            process.kill()


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
