"""`face-detailer weights …` on a profile of small files."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_profile import REPO, SITE, UNET_PATH, Profile

from server.cli import main
from server.cli_progress import reporting
from weights import sources
from weights.sources import Hub
from weights.store import Event


@dataclass
class Answer:
    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Answer]


def toml_of(profile: Profile) -> str:
    lines = []
    for file in profile.files:
        lines.append("[[sdxl]]")
        if isinstance(file.source, Hub):
            lines += [f'hub = "{file.source.repo}"', f'revision = "{file.source.revision}"']
        else:
            lines.append(f'url = "{file.source.prefix}"')
        lines += ['licence = "MIT"', "[[sdxl.files]]", f'path = "{file.path}"']
        lines.append(f'name = "{file.name}"')
        if file.sha256:
            lines += [f"bytes = {file.bytes}", f'sha256 = "{file.sha256}"']
    lines += ['extra = "fast"']
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def environment(profile: Profile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The upscaler, last in the manifest, is an extra here."""
    url = profile.server.url
    monkeypatch.setenv("FACE_DETAILER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FACE_DETAILER_HUB_ENDPOINT", url)
    monkeypatch.setenv("FACE_DETAILER_URL_MIRRORS", f"{SITE.prefix}={url}/")
    monkeypatch.setattr(sources, "MANIFEST", tmp_path / "manifest.toml")
    (tmp_path / "manifest.toml").write_text(toml_of(profile))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["face-detailer", "weights", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        code = ending.value.code
        return Answer(code if isinstance(code, int) else 0, *capfd.readouterr())

    return run


def test_pull_list_verify(cli: Cli, tmp_path: Path) -> None:
    before = cli("list").stdout
    assert re.search(r"unet/big\.safetensors +300000 +MIT +someone/inpainting +no", before)
    assert re.search(r"unet/config\.json +small ", before)
    assert re.search(r"upscaler/x2\.safetensors .* files\.example/models +fast +no", before)

    pulled = cli("pull")
    folder = tmp_path / "data" / "weights" / "sdxl"
    assert pulled.returncode == 0
    assert pulled.stdout == f"The profile sdxl is complete, in {folder}\n"
    # Into a log, a line when a file begins and when it is there.
    assert pulled.stderr.splitlines() == [
        "fetching unet/big.safetensors",
        "checking unet/big.safetensors",
        "unet/big.safetensors: 300.0 kB",
        "fetching unet/config.json",
        "checking unet/config.json",
        "unet/config.json: 18 bytes",
    ]
    assert re.search(r"unet/big\.safetensors .* yes", cli("list").stdout)
    verified = cli("verify")
    assert (verified.returncode, verified.stdout) == (0, "All files of sdxl are right.\n")
    assert (folder / "profile.toml").is_file()
    assert not (folder / "upscaler" / "x2.safetensors").exists()


def test_a_log_gets_a_line_for_every_tenth_of_a_large_file(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with reporting() as on_event:
        for percent in range(0, 101, 2):
            on_event(Event("unet/x", "fetching", percent * 10_000_000, 1_000_000_000))
    assert capfd.readouterr().err.splitlines() == [
        f"fetching unet/x, {tenth * 10} %" for tenth in range(11)
    ]


def test_an_extra_comes_on_request(cli: Cli, tmp_path: Path) -> None:
    assert cli("pull", "--with", "fast").returncode == 0
    assert (tmp_path / "data/weights/sdxl/upscaler/x2.safetensors").is_file()
    wrong = cli("pull", "--with", "slow")
    assert wrong.returncode == 1
    assert wrong.stderr == "face-detailer: unknown extra 'slow': expected one of fast\n"


def test_a_damaged_file_is_named_with_the_remedy(cli: Cli, tmp_path: Path) -> None:
    cli("pull")
    (tmp_path / "data/weights/sdxl/unet/config.json").write_text("{}")
    answer = cli("verify")
    assert answer.returncode == 1
    assert answer.stderr.splitlines() == [
        "unet/config.json: expected 18 bytes, got 2 bytes",
        "face-detailer: 1 files of sdxl are not right. `weights pull --profile sdxl` mends that.",
    ]


def test_a_file_that_the_mirror_lacks_is_one_sentence(profile: Profile, cli: Cli) -> None:
    del profile.server.files[UNET_PATH]
    answer = cli("pull")
    assert answer.returncode == 1
    assert answer.stderr.startswith("face-detailer: unet/big.safetensors: expected the file from ")
    assert "got HTTP 404 Not Found" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_import_takes_a_folder(profile: Profile, cli: Cli, tmp_path: Path) -> None:
    unet = tmp_path / "stick" / REPO.repo / "unet"
    unet.mkdir(parents=True)
    (unet / "big.fp16.safetensors").write_bytes(profile.unet)
    answer = cli("import", tmp_path / "stick")
    assert answer.returncode == 1
    assert "expected 2 files, 1 are not there: unet/config.json" in answer.stderr
    (unet / "config.json").write_bytes(profile.config)
    assert cli("import", tmp_path / "stick").returncode == 0
    assert cli("verify").returncode == 0
    assert profile.server.requests == []
    assert cli("import", tmp_path / "none").stderr == (
        f"face-detailer: {tmp_path / 'none'} is no folder.\n"
    )


@pytest.mark.parametrize("command", [["pull"], ["import", "."]])
def test_the_embedded_profile_needs_nothing(cli: Cli, command: list[str]) -> None:
    answer = cli(*command, "--profile", "tiny")
    assert answer.returncode == 0
    assert answer.stdout.startswith("The profile tiny is embedded: there is nothing to ")


def test_the_embedded_profile_is_listed(cli: Cli) -> None:
    assert re.search(r"profile\.toml .* embedded +yes", cli("list", "--profile", "tiny").stdout)


def test_an_unknown_profile_is_one_sentence(cli: Cli) -> None:
    answer = cli("pull", "--profile", "huge")
    assert answer.returncode == 1
    assert answer.stderr == ("face-detailer: unknown profile 'huge': expected one of sdxl, tiny\n")


def test_a_checkpoint_of_ones_own_is_converted(cli: Cli, tmp_path: Path) -> None:
    source, target = tmp_path / "mine.pth", tmp_path / "mine.safetensors"
    torch.save({"params_ema": {"conv.weight": torch.ones(2, 3)}}, source)
    assert cli("convert", source, target).returncode == 0
    assert torch.equal(load_file(target)["conv.weight"], torch.ones(2, 3))
    torch.save({"params": re.compile}, tmp_path / "program.pt")
    for wrong, to, sentence in (
        (source, target, "not exist yet"),
        (source, tmp_path / "mine.bin", "should end in .safetensors"),
        (tmp_path / "gone.pt", tmp_path / "a.safetensors", "No such file or directory"),
        (tmp_path / "program.pt", tmp_path / "a.safetensors", "expected weights alone"),
    ):
        answer = cli("convert", wrong, to)
        assert answer.returncode == 1
        assert sentence in answer.stderr
    assert not (tmp_path / "a.safetensors").exists()
