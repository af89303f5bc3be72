"""Loaders for the workers under test: detailers that work on pixels, raise, exit and dawdle."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import ImageTooLarge, InvalidImage, OutOfMemory, Stopped, WeightsError
from pipeline.request import DetailRequest, DetailResult
from pipeline.types import FaceBox, Image


@dataclass
class Order:
    """The part of a prompt behind its `=`, and what the worker hands to a detailer."""

    text: str
    on_progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]


def wait_for(order: Order) -> None:
    """Dawdle until the file exists; where told to stop, leave a file that says so."""
    Path(f"{order.text}.begun").touch()
    while not Path(order.text).exists():
        if order.should_stop():
            Path(f"{order.text}.stopped").touch()
            raise Stopped("stopped")
        time.sleep(0.005)


def hang(order: Order) -> None:
    """Never look up."""
    Path(f"{order.text}.begun").touch()
    time.sleep(3600)


def steps(order: Order) -> None:
    for i in range(int(order.text)):
        order.on_progress(i + 1, int(order.text))


def report_late(order: Order) -> None:
    """Tell a step from another thread after the answer."""
    threading.Timer(0.05, order.on_progress, (1, 2)).start()


def fail(order: Order) -> None:
    raise RuntimeError(f"a secret path: {order.text}")


def refuse(order: Order) -> None:
    raise {"broken": InvalidImage, "large": ImageTooLarge}[order.text](order.text)


def leave(order: Order) -> None:
    sys.exit(int(order.text))


def exit_at_once(order: Order) -> None:
    os._exit(int(order.text))


def die_once(order: Order) -> None:
    """As the out-of-memory killer would have it, but only where the file does not exist yet."""
    if not Path(order.text).exists():
        Path(order.text).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def exceed_memory(order: Order) -> None:
    raise OutOfMemory(order.text)


def exceed_memory_elsewhere(order: Order) -> None:
    """Where nothing is halved."""
    import torch

    raise torch.OutOfMemoryError(order.text)


def lose_device_once(order: Order) -> None:
    """What torch raises after an illegal memory access."""
    if not Path(order.text).exists():
        import torch

        Path(order.text).touch()
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


ORDERS = {
    function.__name__: function
    for function in (
        wait_for,
        hang,
        steps,
        report_late,
        fail,
        refuse,
        leave,
        exit_at_once,
        die_once,
        exceed_memory,
        exceed_memory_elsewhere,
        lose_device_once,
    )
}


@dataclass
class Detailer:
    """Does what the prompt orders (`name=text`), then inverts the picture and adds the seed.

    `seconds` tells the process's number, the jobs it has done and the most at a time.
    """

    running: int = 0
    most: int = 0
    done: int = 0

    def __call__(
        self,
        request: DetailRequest,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> DetailResult:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            name, _, text = request.prompt.partition("=")
            if name:
                ORDERS[name](Order(text, on_progress, should_stop))
        finally:
            self.running -= 1
        self.done += 1
        shades = [np.uint8((request.seed + i) % 256) for i in range(request.samples)]
        return DetailResult(
            images=tuple(Image(255 - request.image.pixels + shade) for shade in shades),
            alpha=request.alpha,
            faces=(FaceBox(1, 2, 3, 4, 0.5),),
            kept=1,
            seconds={"pid": os.getpid(), "done": self.done, "most": self.most},
        )


def inverter(_profile_path: Path, _device: str, _memory_mode: str) -> Detailer:
    return Detailer()


def logged(profile_path: Path, device: str, _memory_mode: str) -> Detailer:
    """Writes a line per life to the file WORKER_STARTS; fails while `<that file>.broken` exists."""
    starts = Path(os.environ["WORKER_STARTS"])
    with starts.open("a") as lines:
        lines.write(f"{os.getpid()} {device} {profile_path.name}\n")
    if Path(f"{starts}.broken").exists():
        raise WeightsError("a file of weights is missing: unet/model.safetensors")
    return Detailer()


def slow(_profile_path: Path, _device: str, _memory_mode: str) -> Detailer:
    """Loads for an hour, with a child of its own beside it; both numbers go to WORKER_STARTS."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(os.environ["WORKER_STARTS"]).write_text(f"{os.getpid()} {child.pid}\n")
    time.sleep(3600)
    return Detailer()
