"""Which devices there are, which profile suits them, how many threads each worker may use."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

# The driver answers in milliseconds; torch, which also knows whether it can use the driver, is
# asked only where there is one.
_COUNT_CUDA_DEVICES = """
import ctypes
count = ctypes.c_int(0)
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError:
    driver = None
if driver is not None and driver.cuInit(0) == 0:
    driver.cuDeviceGetCount(ctypes.byref(count))
if count.value:
    import torch
    count.value = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(count.value)
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """One worker per device, all with the same profile, each with `threads` CPU threads."""

    devices: tuple[str, ...]
    profile: str
    threads: int


def plan_workers(devices: Literal["auto"] | tuple[str, ...], profile: str) -> Plan:
    """Settle what the settings leave open. Blocks, for seconds where there is a GPU.

    Raises:
        subprocess.CalledProcessError: the child that counts the devices failed.
    """
    if devices == "auto":
        devices = tuple(f"cuda:{i}" for i in range(_cuda_devices())) or ("cpu",)
    if profile == "auto":
        cuda = any(device.startswith("cuda") for device in devices)
        profile = "sdxl" if cuda else "tiny"
    return Plan(devices, profile, threads=max(1, _cpus() // len(devices)))


def _cpus() -> int:
    """How many this process may use; where the system cannot tell (macOS), how many there are."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _cuda_devices() -> int:
    """How many a child sees: a driver or a torch once opened would stay open in this process."""
    command = [sys.executable, "-c", _COUNT_CUDA_DEVICES]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return int(answer.stdout)
