"""Like mistakes end with the same exit code, of whichever command, and name what was typed."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from server.cli.main import main

pytestmark = pytest.mark.usefixtures("tiny_on_cpu")

Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run a command where `a.png` is a picture and `file` is no folder; its exit code and standard
    error.
    """
    monkeypatch.chdir(tmp_path)
    PIL.Image.new("RGB", (48, 32)).save("a.png")
    Path("file").touch()

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["face-detailer", *arguments])
        with pytest.raises(SystemExit) as ending:
            main()
        return int(ending.value.code or 0), capfd.readouterr().err

    return run


@pytest.mark.parametrize(
    "command",
    [
        # Missing files and folders.
        "detail none.jpg",
        "detect none.jpg",
        "load none.jpg --key SG_0 --url http://127.0.0.1:9",
        "eval detect --data none",
        "eval upscale --data none",
        "weights import none",
        "weights convert none.pt out.safetensors",
        "bench --profile none.toml",
        "serve --profile none.toml",
        "detail a.png --profile none.toml",
        # What cannot be written.
        "detail a.png -o file/out.png",
        "detail a.png --steps file",
        "detect a.png --overlay file/out.png",
        "load a.png --key SG_0 --json file/out.json",
        "eval detect --data . --json file/out.json",
        "bench --json file/out.json",
        # Machines that lack something.
        "serve --profile sdxl",
        "detail a.png --profile sdxl",
        "detect a.png --device mps",
        "keys revoke SG_00",
        # A server that is not there.
        "detail a.png --url http://127.0.0.1:9 --key SG_0",
        "detect a.png --url http://127.0.0.1:9 --key SG_0",
    ],
)
def test_what_the_machine_lacks_gives_one(cli: Cli, command: str) -> None:
    code, err = cli(*command.split())
    assert (code, err.count("face-detailer: ")) == (1, 1), err


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("detail a.png --profile nope", "--profile: should be auto"),
        ("detect a.png --profile nope", "--profile: should be auto"),
        ("serve --profile nope", "--profile: should be auto"),
        ("bench --profile nope", "--profile: should be auto"),
        ("detail a.png --url http://127.0.0.1:9", "wants an API key: pass --key"),
        ("detect a.png --url http://127.0.0.1:9", "wants an API key: pass --key"),
        ("load a.png --url http://127.0.0.1:9", "wants an API key: pass --key"),
        ("doctor --profile nope", "--profile: should be auto"),
        ("eval detect --data . --profile nope", "--profile: should be auto"),
        ("weights list --profile nope", "--profile: unknown profile 'nope'"),
        ("weights list --profile extra", "--profile: unknown profile 'extra'"),
        ("weights pull --with nope", "--with: unknown extra 'nope'"),
        ("detail a.png --device foo", "--device: should be auto"),
        ("serve --device foo", "--device: should be auto"),
        ("doctor --device foo", "--device: should be auto"),
        ("serve --port abc", "'--port'"),
        ("serve --port 65536", "--port: should be less than or equal to 65535"),
        ("bench --memory-mode foo", "--memory-mode: should be"),
        ("bench --compile foo", "--compile: should be"),
        ("bench --upscale 3", "--upscale should be 1, 2 or 4."),
        ("detail a.png --jobs many", "'--jobs'"),
        ("detail a.png --max-faces many", "--max-faces: Inputs which are supposed to be numbers"),
        ("detail a.png --max-faces 50", "--max-faces should be between 0 and 20"),
        ("detail a.png --face-order x", "Invalid --face-order. Allowed values are "),
        ("detect a.png --min-face-px -1", "--min-face-px should be between"),
        ("detail a.png none.jpg -o out.jpg", "out.jpg is not a folder: several pictures need one."),
        ("detail a.png none.jpg -o -", "Standard output takes one picture"),
        ("detect a.png none.jpg --overlay out.jpg", "out.jpg is not a folder: several pictures"),
        ("detail a.png -o out.gif", "out.gif should end in .jpg"),
        ("detect a.png --overlay out.gif", "out.gif should end in .jpg"),
        ("eval upscale --data . --sheet out.gif", "out.gif should end in .png"),
        ("weights convert a.pt out.bin", "out.bin should end in .safetensors"),
        ("detail a.png --url ftp://a", "--url: The server's address should be an http(s) URL"),
        ("load a.png --url ftp://a", "--url: The server's address should be an http(s) URL"),
        ("detail a.png --url http://a --key ä", "--key: The API key should consist of printable"),
        ("keys create --credits many", "Credits should be a number"),
        ("keys create --credits -1", "Credits should be between"),
        ("webhooks set SG_0 ftp://a", "ftp://a should be an http://"),
    ],
)
def test_what_can_never_be_gives_two_and_is_named(cli: Cli, command: str, named: str) -> None:
    code, err = cli(*command.split())
    assert code == 2, err
    assert named in err
    assert not Path("out.jpg").exists()


@pytest.mark.parametrize(
    ("command", "variable", "value", "named"),
    [
        ("serve", "PORT", "abc", "FACE_DETAILER_PORT: should be a valid integer"),
        ("serve", "DEVICES", "foo", "FACE_DETAILER_DEVICES: should be auto"),
        ("detail a.png", "PROFILE", "nope", "FACE_DETAILER_PROFILE: should be auto"),
        ("detail a.png", "URL", "ftp://a", "FACE_DETAILER_URL: The server's address should be"),
        ("detail a.png --url http://a", "KEY", "ä", "FACE_DETAILER_KEY: The API key should"),
    ],
)
def test_a_variable_is_named_where_it_was_set(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    variable: str,
    value: str,
    named: str,
) -> None:
    monkeypatch.setenv(f"FACE_DETAILER_{variable}", value)
    code, err = cli(*command.split())
    assert code == 2, err
    assert err.startswith(f"face-detailer: {named}")


def test_a_port_in_use_gives_one(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, err = cli("serve", "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "Address already in use" in err
