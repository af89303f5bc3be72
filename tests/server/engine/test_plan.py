"""What the settings leave open, settled; and a profile that cannot be used, refused in words."""

import asyncio
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workers_support import settings, until

from pipeline.errors import InvalidProfile, WeightsError
from server.engine.plan import (
    ChosenProfile,
    ProfileNotReady,
    UnusableGpu,
    choose_devices,
    choose_name,
    explain,
    plan,
)
from server.engine.workers import WorkerPool
from server.types import EngineState
from weights.manifest import PACKAGE_DIR


def test_without_a_gpu_one_worker_runs_the_tiny_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    chosen = plan(settings(devices="auto", profile="auto"))
    assert chosen.devices == ("cpu",)
    assert chosen.profile == ChosenProfile("tiny", PACKAGE_DIR / "tiny")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """One with an sdxl profile whose file was pulled."""
    folder = tmp_path / "weights" / "sdxl"
    folder.mkdir(parents=True)
    (folder / "profile.toml").write_bytes((PACKAGE_DIR / "sdxl" / "profile.toml").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("devices", "profile", "expected"),
    [
        (("cpu",), "auto", "tiny"),
        (("cuda:0", "cuda:1"), "auto", "sdxl"),
        (("cuda",), "tiny", "tiny"),
        (("cpu",), "sdxl", "sdxl"),
    ],
)
def test_what_is_set_stays(devices: tuple[str, ...], profile: str, expected: str) -> None:
    assert choose_devices(devices) == devices
    assert choose_name(profile, devices) == expected


def test_a_fetched_profile_lies_in_the_data_folder(data_dir: Path) -> None:
    chosen = plan(settings(devices=("cpu",), profile="sdxl", data_dir=data_dir))
    assert chosen.profile == ChosenProfile("sdxl", data_dir / "weights" / "sdxl")


@pytest.mark.parametrize(
    ("devices", "sentence"),
    [
        (("cuda",), "device cuda:0 was asked for, and this machine has no GPU, or no driver of it"),
        (("cpu", "cuda:3"), "device cuda:3 was asked for, and this machine has no GPU"),
        (("mps",), "device mps is of Apple's machines"),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UnusableGpu, match=sentence):
        plan(settings(devices=devices, profile="tiny"))


def test_a_profile_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'base = "{PACKAGE_DIR}/tiny/profile.toml"\nname = "mine"\n')
    chosen = plan(settings(profile=str(file)))
    assert chosen.profile == ChosenProfile(str(file), file)


def test_workers_share_the_cpus() -> None:
    cpus = len(os.sched_getaffinity(0))
    assert plan(settings()).threads == cpus
    assert plan(settings(devices=("cpu",) * (2 * cpus))).threads == 1


def test_weights_that_were_not_pulled(tmp_path: Path) -> None:
    with pytest.raises(ProfileNotReady, match="face-detailer weights pull --profile sdxl"):
        plan(settings(profile="sdxl", data_dir=tmp_path))


def wrong_profile(tmp_path: Path) -> tuple[Path, str]:
    file = tmp_path / "mine.toml"
    file.write_text(f'base = "{PACKAGE_DIR}/tiny/profile.toml"\n[detail]\nstrength = 2\n')
    return file, f"{file}: detail.strength should be a number from 0 to 1, got 2"


def test_a_wrong_profile_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    file, sentence = wrong_profile(tmp_path)
    with pytest.raises(ProfileNotReady) as raised:
        plan(settings(profile=str(file)))
    assert str(raised.value) == sentence


def test_a_pool_with_a_wrong_profile_logs_the_sentence_and_is_dead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, sentence = wrong_profile(tmp_path)

    async def run() -> None:
        pool = WorkerPool(settings(profile=str(file)))
        await pool.start()
        try:
            await until(lambda: pool.state is EngineState.DEAD)
        finally:
            await pool.stop()

    asyncio.run(run())
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [(record.getMessage(), record.exc_info) for record in errors] == [(sentence, None)]


@pytest.mark.parametrize(
    ("error", "profile", "repair"),
    [
        (WeightsError("a file is missing"), "sdxl", True),
        (WeightsError("a file is missing"), "tiny", False),
        (WeightsError("a file is missing"), "/mine.toml", False),
        (InvalidProfile("a key is wrong"), "sdxl", False),
    ],
)
def test_only_fetched_weights_are_repaired_by_fetching(
    error: WeightsError | InvalidProfile, profile: str, repair: bool
) -> None:
    text = explain(error, profile)
    assert text.startswith(str(error))
    assert ("`face-detailer weights pull --profile sdxl` repairs it." in text) is repair
    assert repair or text == str(error)


def test_compiling_wants_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling = settings(devices=("cpu",), profile="tiny", compile="regional")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProfileNotReady, match=r"COMPILE.* needs a C compiler, and PATH has none"):
        plan(compiling)
    (tmp_path / "gcc").touch(mode=0o755)
    assert plan(compiling).devices == ("cpu",)


def test_the_identity_gate_wants_its_recogniser(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = {"devices": ("cpu",), "identity": "on"}
    plan(settings(**gated, profile="tiny"))
    with pytest.raises(
        ProfileNotReady, match=r"missing: /.*sface\.onnx, /.*yunet\.onnx\. .*--with identity"
    ):
        plan(settings(**gated, profile="sdxl", data_dir=data_dir))
    (data_dir / "weights" / "sdxl" / "recogniser").mkdir()
    for name in ("sface", "yunet"):
        (data_dir / "weights" / "sdxl" / "recogniser" / f"{name}.onnx").touch()
    plan(settings(**gated, profile="sdxl", data_dir=data_dir))
    whole = (PACKAGE_DIR / "tiny" / "profile.toml").read_text()
    (tmp_path / "mine.toml").write_text(re.sub(r"\[identity\]\n(.+\n)+", "", whole))
    with pytest.raises(ProfileNotReady, match=r"IDENTITY is on, and .* has no \[identity\] table"):
        plan(settings(**gated, profile=str(tmp_path / "mine.toml")))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "dlib", raising=False)
    with pytest.raises(ProfileNotReady, match=r"pip install 'face-detailer\[identity\]'"):
        plan(settings(**gated, profile="tiny"))


DRIVER = """
int cuInit(unsigned flags) { return %d; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
"""


def driver_in(folder: Path, status: int) -> Path:
    """The folder, with a driver that answers so."""
    source = folder / "driver.c"
    source.write_text(DRIVER % status)
    command = ["c++", "-x", "c", "-shared", "-fPIC", str(source), "-o", f"{folder}/libcuda.so.1"]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.skipif(not shutil.which("c++"), reason="builds a driver")
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param(803, "CUDA's driver answers with error 803", id="another version's library"),
        # The real library under torch is missing something, as a driver that is too old is.
        pytest.param(0, "", id="torch does not take it", marks=pytest.mark.slow),
    ],
)
def test_a_gpu_that_cannot_be_used_is_no_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    """Nobody would know why the pictures take minutes."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver_in(tmp_path, status)))
    with pytest.raises(UnusableGpu, match=f"cannot be used: {reason}.*FACE_DETAILER_DEVICES=cpu"):
        choose_devices("auto")
    assert choose_devices(("cpu",)) == ("cpu",)


@pytest.mark.skipif(not shutil.which("c++"), reason="builds a driver")
def test_a_driver_without_a_gpu_means_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver_in(tmp_path, 100)))
    assert choose_devices("auto") == ("cpu",)
