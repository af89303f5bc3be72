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

from server.cli.main import main
from server.cli.progress import reporting
from weights import manifest, sources
from weights.manifest import PACKAGE_DIR
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
    folder = tmp_path / "data" / "weights" / "sdxl"
    assert before.startswith(f"Profile sdxl, in {folder}\nOthers, by --profile: sdxl-fast, ")
    assert re.search(r"unet/big\.safetensors\s+300000\s+MIT\s+someone/inpainting\s+no", before)
    assert re.search(r"unet/config\.json\s+18\s", before)
    placed = len([file for file in (PACKAGE_DIR / "sdxl").rglob("*") if file.is_file()])
    assert before.endswith(
        "2 files that it needs, 0.00 GB together\n"
        "1 file of extras: `weights pull --with EXTRA`\n"
        f"{placed} files not listed: small, of this program; `pull` adds them\n"
    )
    # In a pipe, a line is a row without blanks to fill it up, however long it is.
    assert max(map(len, before.replace(str(folder), "").splitlines())) <= 80
    missing = cli("verify").stderr.splitlines()
    assert missing[-1] == (
        f"face-detailer: {placed + 2} files of sdxl wrong or missing: 2 to download, {placed} of "
        "this program. `face-detailer weights pull --profile sdxl` repairs them."
    )
    assert len(missing) == placed + 3
    assert re.search(r"upscaler/x2\.safetensors\s.*\sfiles\.example/models\s+fast\s+no", before)

    pulled = cli("pull")
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
    assert re.search(r"unet/big\.safetensors\s.*\syes", cli("list").stdout)
    verified = cli("verify")
    assert verified.returncode == 0
    assert verified.stdout.splitlines()[0] == f"Profile sdxl, in {folder}"
    assert verified.stdout.splitlines()[-1] == "All files of sdxl are right."
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


def test_that_a_server_asks_to_wait_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with reporting() as on_event:
        on_event(Event("unet/x", "pausing", wait_s=55.0))
    assert capfd.readouterr().err == "unet/x: the server asks to wait 55 s.\n"


def test_an_extra_comes_on_request(cli: Cli, tmp_path: Path) -> None:
    assert cli("pull", "--with", "fast").returncode == 0
    assert (tmp_path / "data/weights/sdxl/upscaler/x2.safetensors").is_file()
    wrong = cli("pull", "--with", "slow")
    assert wrong.returncode == 2
    assert wrong.stderr == "face-detailer: --with: unknown extra 'slow': expected one of fast\n"


def test_a_variant_is_pulled_with_what_only_it_needs(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(manifest.VARIANTS, "sdxl-fast", ("sdxl", "fast.toml", "fast"))
    folder = tmp_path / "data/weights/sdxl"
    pulled = cli("pull", "--profile", "sdxl-fast")
    assert pulled.stdout == f"The profile sdxl-fast is complete, in {folder}\n"
    assert {file.name for file in folder.glob("*.toml")} >= {"profile.toml", "fast.toml"}
    verified = cli("verify", "--profile", "sdxl-fast")
    assert verified.stdout.endswith("All files of sdxl-fast are right.\n")
    (folder / "upscaler" / "x2.safetensors").unlink()
    assert "x2.safetensors: expected" in cli("verify", "--profile", "sdxl-fast").stderr


def test_a_damaged_file_is_named_with_the_remedy(cli: Cli, tmp_path: Path) -> None:
    cli("pull")
    (tmp_path / "data/weights/sdxl/unet/config.json").write_text("{}")
    answer = cli("verify")
    assert answer.returncode == 1
    assert answer.stderr.splitlines() == [
        "unet/config.json: expected 18 bytes, got 2 bytes",
        "face-detailer: 1 file of sdxl wrong or missing: 1 to download, 0 of this program. "
        "`face-detailer weights pull --profile sdxl` repairs them.",
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
    assert "expected 2 files, 1 are missing: unet/config.json" in answer.stderr
    (unet / "config.json").write_bytes(profile.config)
    assert cli("import", tmp_path / "stick").returncode == 0
    assert cli("verify").returncode == 0
    assert profile.server.requests == []
    assert cli("import", tmp_path / "none").stderr == (
        f"face-detailer: {tmp_path / 'none'} is not a folder.\n"
    )


@pytest.mark.parametrize("command", [["pull"], ["import", "."]])
def test_the_embedded_profile_needs_nothing(cli: Cli, command: list[str]) -> None:
    answer = cli(*command, "--profile", "tiny")
    assert answer.returncode == 0
    assert answer.stdout.startswith("The profile tiny is embedded: there is nothing to ")


def test_the_embedded_profile_is_listed(cli: Cli) -> None:
    assert re.search(r"profile\.toml\s.*\sembedded\s+yes", cli("list", "--profile", "tiny").stdout)


def test_an_unknown_profile_is_one_sentence(cli: Cli) -> None:
    answer = cli("pull", "--profile", "huge")
    assert answer.returncode == 2
    assert answer.stderr == (
        "face-detailer: --profile: unknown profile 'huge': "
        "expected one of sdxl, sdxl-fast, sdxl-inpainting, tiny\n"
    )


def test_a_checkpoint_of_ones_own_is_converted(cli: Cli, tmp_path: Path) -> None:
    source, target = tmp_path / "mine.pth", tmp_path / "mine.safetensors"
    torch.save({"params_ema": {"conv.weight": torch.ones(2, 3)}}, source)
    assert cli("convert", source, target).returncode == 0
    assert torch.equal(load_file(target)["conv.weight"], torch.ones(2, 3))
    torch.save({"params": re.compile}, tmp_path / "program.pt")
    for wrong, to, code, sentence in (
        (source, target, 1, "exists"),
        (source, tmp_path / "mine.bin", 2, "should end in .safetensors"),
        (tmp_path / "gone.pt", tmp_path / "a.safetensors", 1, "No such file or directory"),
        (tmp_path / "program.pt", tmp_path / "a.safetensors", 1, "expected only weights"),
    ):
        answer = cli("convert", wrong, to)
        assert answer.returncode == code
        assert sentence in answer.stderr
    assert not (tmp_path / "a.safetensors").exists()
