"""What `face-detailer doctor` looks at, one function each: first the machine."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from server.cli import server_checks
from server.cli.findings import Finding, Machine
from server.cli.variables import unknown_variables
from server.engine.plan import UnusableGpu, check_devices, choose_devices, choose_name
from server.errors import OperatorError
from server.settings import read_settings

_GIB: Final = 2**30
# What a profile takes, on the CPU and on a GPU (`memory_mode` low); see docs/performance.md.
_TINY_BYTES: Final = 2 * _GIB
_SDXL_CPU_BYTES: Final = 16 * _GIB
_SDXL_GPU_BYTES: Final = 8 * _GIB
# A clock that is wrong by less is nobody's trouble.
_CLOCK_S: Final = 24 * 3600
_PATIENCE_S: Final = 120

_ASK_TORCH: Final = """
import ctypes, json, warnings
warnings.simplefilter("ignore")
import torch
driver = ctypes.c_int(0)
try:
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(driver))
except (OSError, AttributeError):
    pass
there = torch.cuda.is_available()
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
    "driver": driver.value,
    "gpus": [[d.name, d.total_memory] for d in devices] if there else [],
}))
"""


def examine(profile: str | None, device: str | None) -> list[Finding]:
    """Look at everything; a few seconds, most of them torch's.

    Raises:
        SettingsError: the profile is none, or the device.
    """
    findings = [_python(), *_variables()]
    try:
        settings = read_settings(profile=profile, devices=device)
    except OperatorError as error:
        lines = str(error).splitlines()
        if any(line.startswith("--") for line in lines):
            # Not the machine's fault, but the command's.
            raise
        wrong = [Finding("settings", "failed", line, "see docs/settings.md") for line in lines]
        return [*findings, *wrong]
    machine = Machine(settings, *_ask_torch())
    for check in _CHECKS:
        findings += check(machine)
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Finding("python", "ok", version)
    return Finding("python", "failed", version, "use Python 3.11, 3.12 or 3.13")


def _variables() -> Iterator[Finding]:
    for sentence in unknown_variables():
        yield Finding("settings", "warning", sentence, "rename it or unset it: docs/settings.md")


def _ask_torch() -> tuple[dict[str, Any] | None, str]:
    """Asked in a child: a driver that was once opened would stay open in this process."""
    command = [sys.executable, "-P", "-c", _ASK_TORCH]
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter, our own script
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
        return dict(json.loads(child.stdout)), ""
    except subprocess.TimeoutExpired:
        return None, f"it does not start within {_PATIENCE_S} s"
    except ValueError:
        return None, (child.stderr.strip().splitlines() or ["it ends without a word"])[-1]


def _torch(machine: Machine) -> Iterator[Finding]:
    if machine.torch is None:
        yield Finding("torch", "failed", machine.torch_error, "`make setup` installs it anew")
        return
    cuda = f", built for CUDA {machine.torch['cuda']}" if machine.torch["cuda"] else ""
    yield Finding("torch", "ok", f"{machine.torch['torch']}{cuda}")


def _driver(machine: Machine) -> Iterator[Finding]:
    """NVIDIA's, by the newest CUDA that it runs: 13000 is 13.0."""
    number = machine.torch["driver"] if machine.torch else 0
    if number:
        text = f"runs CUDA up to {number // 1000}.{number % 1000 // 10}"
        yield Finding("driver", "ok", text)


def _gpu(machine: Machine) -> Iterator[Finding]:
    """Driver and devices."""
    asked = machine.settings.devices
    gpus = machine.torch["gpus"] if machine.torch else []
    try:
        devices = choose_devices(asked)
        check_devices(devices)
    except UnusableGpu as error:
        yield Finding("gpu", "failed", str(error), "see docs/deploy.md for drivers")
        return
    for number, (name, total_bytes) in enumerate(gpus):
        text = f"cuda:{number} {name}, {total_bytes / _GIB:.0f} GiB"
        if total_bytes < _SDXL_GPU_BYTES:
            remedy = "SDXL wants 8 GiB and more: run --profile tiny"
            yield Finding("gpu", "warning", text, remedy)
        else:
            yield Finding("gpu", "ok", text)
    if not gpus:
        name = choose_name(machine.settings.profile, devices)
        if name == "tiny":
            yield Finding("gpu", "ok", "none: the profile tiny runs on the CPU")
        else:
            remedy = "install NVIDIA's driver (docs/deploy.md), or use --profile tiny"
            yield Finding("gpu", "warning", f"none: {name} takes minutes a picture", remedy)


def _memory(machine: Machine) -> Iterator[Finding]:
    free = _free_memory_bytes()
    if free is None:
        return
    on_gpu = bool(machine.torch and machine.torch["gpus"]) and machine.settings.devices != ("cpu",)
    tiny = machine.settings.profile == "tiny" or (machine.settings.profile == "auto" and not on_gpu)
    wanted = _TINY_BYTES if tiny or on_gpu else _SDXL_CPU_BYTES
    text = f"{free / _GIB:.1f} GiB free"
    if free >= wanted:
        yield Finding("memory", "ok", text)
    else:
        remedy = f"the profile wants {wanted / _GIB:.0f} GiB: stop other programs"
        yield Finding("memory", "warning", text, remedy)


def _free_memory_bytes() -> int | None:
    """What Linux would give without swapping, in the container's limits; None: it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free
    return min(free, limit - used)


def _clock(machine: Machine) -> Iterator[Finding]:
    """No time before this was installed can be right: signatures and TLS would fail."""
    del machine
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    try:
        installed = Path(str(distribution("face-detailer").locate_file("."))).stat().st_mtime
    except (OSError, PackageNotFoundError):
        installed = 0.0
    newest = max(installed, Path(__file__).stat().st_mtime)
    if time.time() < newest - _CLOCK_S:
        text = f"{now}, which is before this program was installed"
        yield Finding("clock", "failed", text, "set the clock, by NTP for instance")
    else:
        yield Finding("clock", "ok", now)


_CHECKS: Final[tuple[Callable[[Machine], Iterator[Finding]], ...]] = (
    *(_torch, _driver, _gpu, _memory, server_checks.disk, server_checks.weights),
    *(server_checks.port, server_checks.data_folder, server_checks.keys, _clock),
)
