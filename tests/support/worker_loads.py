"""Loaders for the workers under test: detailers that work on pixels, raise, exit and dawdle."""

import logging
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
from pipeline.progress import OnProgress, Progress, Step
from pipeline.report import Usage
from pipeline.request import DetailRequest, DetailResult, Selection
from pipeline.timing import StageTime
from pipeline.types import Detection, FaceBox, Image


@dataclass
class Order:
    """The part of a prompt behind its `=`, and what the worker hands to a detailer."""

    text: str
    on_progress: OnProgress
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


def step(done: int, total: int) -> Progress:
    return Progress("detail", 1, Step(1, 1, done, total), done, total)


def steps(order: Order) -> None:
    order.on_progress(Progress("detecting"))
    order.on_progress(Progress("found", faces=1))
    for i in range(int(order.text)):
        order.on_progress(step(i + 1, int(order.text)))


def report_late(order: Order) -> None:
    """Tell a step from another thread after the answer."""
    threading.Timer(0.05, order.on_progress, (step(1, 2),)).start()


def fail(order: Order) -> None:
    raise RuntimeError(f"a secret path: {order.text}")


def refuse(order: Order) -> None:
    raise {"broken": InvalidImage, "large": ImageTooLarge}[order.text](order.text)


def leave(order: Order) -> None:
    sys.exit(int(order.text))


def exit_at_once(order: Order) -> None:
    os._exit(int(order.text))


def exit_once_begun(order: Order) -> None:
    """Take the worker along as soon as another job leaves this file."""
    while not Path(order.text).exists():
        time.sleep(0.005)
    os._exit(9)


def linger(order: Order) -> None:
    """Take this many seconds."""
    time.sleep(float(order.text))


def time_steps(order: Order) -> None:
    """Once the file exists, report steps and log; leave the seconds that the slowest took."""
    file = Path(order.text)
    while not file.exists():
        time.sleep(0.005)
    slowest_s = 0.0
    for i in range(200):
        started = time.perf_counter()
        order.on_progress(step(i + 1, 200))
        logging.getLogger("steps").warning("step %d", i)
        slowest_s = max(slowest_s, time.perf_counter() - started)
        time.sleep(0.001)
    Path(f"{file}.part").write_text(str(slowest_s))
    Path(f"{file}.part").rename(f"{file}.slowest")


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
        exit_once_begun,
        linger,
        time_steps,
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
        on_progress: OnProgress,
        should_stop: Callable[[], bool],
    ) -> DetailResult:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            name, _, text = request.recipe.prompt.partition("=")
            if name:
                ORDERS[name](Order(text, on_progress, should_stop))
        finally:
            self.running -= 1
        self.done += 1
        recipe = request.recipe
        shades = [np.uint8((recipe.seed + i) % 256) for i in range(recipe.samples)]
        told = {"pid": os.getpid(), "done": self.done, "most": self.most}
        return DetailResult(
            images=tuple(Image(255 - request.image.pixels + shade) for shade in shades),
            alpha=request.alpha,
            faces=(FaceBox(1, 2, 3, 4, 0.5),),
            unchanged=1,
            # Told as if they were seconds.
            stages=tuple(StageTime(name, 0, number * 10**9) for name, number in told.items()),
        )

    def usage(self) -> Usage:
        """As if every job were one call of the network, of 3 rows where 4 have room."""
        done = self.done
        return Usage(calls=done, rows=3 * done, places=4 * done)


def inverter(_profile_path: Path, _device: str, *_how: str) -> Detailer:
    return Detailer()


class Finder(Detailer):
    """The same, which also finds one face in every picture."""

    def detect(
        self, _image: Image, _selection: Selection, should_stop: Callable[[], bool]
    ) -> list[Detection]:
        if should_stop():
            raise Stopped("stopped")
        return [Detection(FaceBox(1, 2, 3, 4, 0.5))]


def finder(_profile_path: Path, _device: str, *_how: str) -> Finder:
    return Finder()


def logged(profile_path: Path, device: str, *_how: str) -> Detailer:
    """Writes a line per life to the file WORKER_STARTS; fails while `<that file>.broken` exists."""
    starts = Path(os.environ["WORKER_STARTS"])
    with starts.open("a") as lines:
        lines.write(f"{os.getpid()} {device} {profile_path.name}\n")
    if Path(f"{starts}.broken").exists():
        raise WeightsError("a file of weights is missing: unet/model.safetensors")
    return Detailer()


def poisoned(profile_path: Path, device: str, *_how: str) -> object:
    """The profile's own detailer, whose UNet answers NaN from the first job on."""
    import torch

    from pipeline.loading import load

    detailer = load(profile_path, device)
    torch.nn.init.constant_(detailer._inpainter.networks["UNet"].conv_out.bias, float("nan"))
    return detailer


def slow(_profile_path: Path, _device: str, *_how: str) -> Detailer:
    """Loads for an hour, with a child of its own beside it; both numbers go to WORKER_STARTS."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(os.environ["WORKER_STARTS"]).write_text(f"{os.getpid()} {child.pid}\n")
    time.sleep(3600)
    return Detailer()
