"""What runs where: which devices there are, which profile runs on them, how many threads each gets.

The one place that settles "auto", and that finds the profile behind a name or a file.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config_reading import read_profile
from pipeline.errors import InvalidProfile, WeightsError
from pipeline.recognisers import find_recogniser
from server.engine.messages import Setup
from server.errors import OperatorError
from server.settings import Settings
from weights.manifest import FETCHED, profile_path
from weights.sources import absent, chosen, downloads

# The driver answers in milliseconds; torch, which also knows whether it can use the driver, is
# asked only where there is one.
_COUNT_CUDA_DEVICES = """
import ctypes
import warnings

NO_DEVICE = 100

def count():
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    status = driver.cuInit(0)
    if status == NO_DEVICE:
        return 0
    if status:
        return f"CUDA's driver answers with error {status}"
    devices = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(devices))
    if not devices.value:
        return 0
    warnings.simplefilter("ignore")
    import torch
    try:
        torch.cuda.init()
    except Exception as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return torch.cuda.device_count()

print(count())
"""

# What torch and Triton look for.
_COMPILERS = ("gcc", "clang", "g++")


class ProfileNotReady(OperatorError):
    """The profile's file is wrong, or what it needs to run is missing."""


class UnusableGpu(OperatorError):
    """There is one, but its driver or torch refuses it: nobody wants to wait for a CPU instead."""


@dataclass(frozen=True, slots=True)
class ChosenProfile:
    """`name`: the profile's, or its file as the settings name it. `path`: its folder or file, for
    `pipeline.loading`.
    """

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """One worker per device, all with the same profile, each with `threads` CPU threads."""

    devices: tuple[str, ...]
    profile: ChosenProfile
    threads: int


def plan(settings: Settings) -> Plan:
    """Settle what the settings leave open. Blocks, for seconds where there is a GPU.

    Raises:
        ProfileNotReady: see `choose_profile` and `check_recogniser`; or torch is to compile, and
            lacks a C compiler.
        UnusableGpu: see `choose_devices` and `check_devices`.
    """
    if settings.compile != "off" and not any(map(shutil.which, _COMPILERS)):
        raise ProfileNotReady(
            f"Compiling (FACE_DETAILER_COMPILE or --compile) needs a C compiler, and PATH has none "
            f"({', '.join(_COMPILERS)})."
        )
    devices = choose_devices(settings.devices)
    if settings.devices != "auto":
        check_devices(devices)
    name = choose_name(settings.profile, devices)
    profile = choose_profile(name, settings.data_dir)
    if settings.identity != "off":
        check_recogniser(profile)
    return Plan(devices, profile, threads=max(1, _cpus() // len(devices)))


def choose_devices(devices: Literal["auto"] | tuple[str, ...]) -> tuple[str, ...]:
    """As torch names them. "auto": all GPUs, or the CPU where there is none. Blocks like `plan`.

    Raises:
        UnusableGpu: there is a driver, and what it or torch says is no number of GPUs.
    """
    if devices != "auto":
        return devices
    return tuple(f"cuda:{i}" for i in range(_cuda_devices())) or ("cpu",)


def check_devices(devices: Sequence[str]) -> None:
    """See that the devices that somebody asked for are there. Blocks like `plan`.

    Raises:
        UnusableGpu: one is not.
    """
    if "mps" in devices and sys.platform != "darwin":
        raise UnusableGpu("The device mps is of Apple's machines: try --device cpu.")
    numbers = [int(d.partition(":")[2] or 0) for d in devices if d.startswith("cuda")]
    if not numbers:
        return
    count = _cuda_devices()
    if max(numbers) >= count:
        there = (
            "1 GPU" if count == 1 else f"{count} GPUs" if count else "no GPU, or no driver of it"
        )
        raise UnusableGpu(
            f"The device cuda:{max(numbers)} was asked for, and this machine has {there}. "
            "`nvidia-smi` lists them; to run without one, set FACE_DETAILER_DEVICES=cpu or pass "
            "--device cpu."
        )


def choose_name(profile: str, devices: Sequence[str]) -> str:
    """The profile that "auto" means on these devices; any other as it is."""
    if profile != "auto":
        return profile
    return "sdxl" if any(device.startswith("cuda") for device in devices) else "tiny"


def choose_profile(name: str, data_dir: Path) -> ChosenProfile:
    """Find a profile, and see that its file is right and, if it is fetched, that it was pulled. No
    weights are read.

    Args:
        name: a profile's name, not "auto", or a profile file, which ends in .toml.
        data_dir: below which fetched profiles lie.

    Raises:
        ProfileNotReady: the text says what is wrong, or what to run.
    """
    path = Path(name) if name.endswith(".toml") else profile_path(name, data_dir)
    folder = path.parent if path.suffix == ".toml" else path
    # `pull` puts it there last. Whatever else is missing the loaders notice: a profile.toml that
    # somebody has changed may need less than `pull` fetches.
    if name in FETCHED and not (folder / "profile.toml").is_file():
        wanted = chosen(downloads(name), [])
        raise ProfileNotReady(
            f"The weights of the profile {name} are not complete in {folder}: "
            f"{len(absent(wanted, folder))} of {len(wanted)} files to download are missing. "
            f"Run `face-detailer weights pull --profile {name}`."
        )
    try:
        read_profile(path)
    except InvalidProfile as error:
        raise ProfileNotReady(str(error)) from error
    return ChosenProfile(name, path)


def check_recogniser(chosen: ChosenProfile) -> None:
    """See that the profile has what the identity gate needs.

    Raises:
        ProfileNotReady: it has not.
    """
    try:
        find_recogniser(read_profile(chosen.path))
    except (InvalidProfile, WeightsError) as error:
        pull = f" Run `face-detailer weights pull --profile {chosen.name} --with identity`."
        raise ProfileNotReady(
            f"FACE_DETAILER_IDENTITY is on, and {error}." + pull * (chosen.name in FETCHED)
        ) from error


def setup_of(settings: Settings, load: str, profile_path: Path, device: str) -> Setup:
    """What a worker is told first. `load`: see `Setup`."""
    return Setup(
        load=load,
        profile_path=profile_path,
        device=device,
        memory_mode=settings.memory_mode,
        compile_mode=settings.compile,
        identity=settings.identity,
        compiled=settings.data_dir / "compiled",
        concurrency=settings.worker_concurrency + settings.detect_concurrency,
        max_image_pixels=settings.max_image_pixels,
        max_side_px=settings.max_side_px,
        keep_exif=settings.keep_exif,
        log_level=logging.getLogger().getEffectiveLevel(),
    )


def explain(error: WeightsError | InvalidProfile, profile: str) -> str:
    """What a loader says about a profile, and how to repair weights that were fetched."""
    if profile not in FETCHED or isinstance(error, InvalidProfile):
        return str(error)
    return (
        f"{error}. `face-detailer weights verify --profile {profile}` says what is wrong, and "
        f"`face-detailer weights pull --profile {profile}` repairs it."
    )


def _cpus() -> int:
    """How many this process may use; where the system cannot say (macOS), how many there are."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _cuda_devices() -> int:
    """How many a child sees: a driver or a torch once opened would stay open in this process."""
    command = [sys.executable, "-P", "-c", _COUNT_CUDA_DEVICES]
    child = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
    answer = child.stdout.strip().rstrip(".") or f"looking for it ended with {child.returncode}"
    if not answer.isdecimal():
        raise UnusableGpu(
            f"The GPU cannot be used: {answer}. `nvidia-smi` may say more; to run without it, set "
            "FACE_DETAILER_DEVICES=cpu or pass --device cpu."
        )
    return int(answer)
