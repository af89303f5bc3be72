"""One measurement of tests/gpu/run.sh: it writes what it knows after each case, so that a limit of
time costs only the cases that were not reached.

    python tests/gpu/measure.py STEP FILE [--size PX] [--compile MODE] [--seconds N] [--pretend]
"""

import argparse
import contextlib
import gc
import itertools
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from places import DEVICE, Place, place

from evaluation.bench.counting import cost_of
from evaluation.bench.run import BenchSetup, _read_networks, _stages
from evaluation.bench.stock import StockInpainter
from evaluation.bench.workload import Workload, _unet_call
from pipeline.detailer import FaceDetailer
from pipeline.errors import ModelFailed, Stopped
from pipeline.models.sdxl.compiling import CompileMode, compile_networks
from pipeline.models.sdxl.inpainter import SdxlInpainter, make_inpainter
from pipeline.models.sdxl.memory import size_bytes
from pipeline.stages import Inpainter

ROOT = Path(__file__).parents[2]
GIB = 2**30
# Side of the square matrices whose product is a card's peak, and how often they are multiplied.
MATRIX, PRODUCTS = 8192, 50
# How long a soak's last requests may go on.
GRACE_S = 10


@dataclass(frozen=True)
class Options:
    size: int | None
    compile: CompileMode
    seconds: float


@dataclass(frozen=True)
class Sheet:
    """A step's rows so far, and the file that has them."""

    file: Path
    rows: list[dict[str, object]]

    def add(self, **figures: object) -> None:
        self.rows.append(figures)
        print(json.dumps(figures), flush=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.rows, indent=1) + "\n")
        part.replace(self.file)


def forget() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(DEVICE)


def peak_gib() -> float:
    return round(torch.cuda.max_memory_allocated(DEVICE) / GIB, 2)


def repaint_s(detailer: FaceDetailer, work: Workload) -> float:
    """Seconds of both passes, from the first cut to the last paste; every stage ends with its
    result on the host.
    """
    started = time.perf_counter()
    # Random weights may paint what no trained ones do.
    with contextlib.suppress(ModelFailed):
        detailer.detail_faces(work.request(), work.boxes())
    return time.perf_counter() - started


def load_ours(setup: BenchSetup) -> SdxlInpainter:
    config, mode = setup.profile.inpainter, setup.memory_mode
    return make_inpainter(_read_networks(setup), config, DEVICE, mode, setup.compile_mode)


def about(where: Place, _options: Options, sheet: Sheet) -> None:
    """What ran, and the card's matrix peak."""
    commit = ""
    with contextlib.suppress(OSError):
        command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    sheet.add(
        card=torch.cuda.get_device_name(DEVICE),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        commit=commit.strip() or "unknown",
        torch=torch.__version__,
        cuda=torch.version.cuda,
        pretended=where.pretended,
    )
    side, products = (64, 2) if where.pretended else (MATRIX, PRODUCTS)
    for kind in (torch.bfloat16, torch.float16):
        one = torch.randn(side, side, device=DEVICE, dtype=kind)
        other = one @ one
        torch.cuda.synchronize(DEVICE)
        started = time.perf_counter()
        for _ in range(products):
            torch.mm(one, one, out=other)
        torch.cuda.synchronize(DEVICE)
        seconds = time.perf_counter() - started
        sheet.add(kind=str(kind), tflops=round(2 * side**3 * products / seconds / 1e12, 1))


def bench(where: Place, options: Options, sheet: Sheet) -> None:
    """Our loop and diffusers' pipeline, with the same weights' sizes and the same steps."""
    side = options.size or where.sizes[0]
    # A compiler takes a while for each of the sizes that a batch may have.
    numbers = where.faces if options.compile == "off" else (where.faces[0], where.faces[-1])
    rows = tuple(2 * faces for faces in numbers)
    profile = where.profile(side)
    profile = replace(profile, inpainter=replace(profile.inpainter, batch_sizes=rows))
    # What is pretended cannot be traced.
    mode: CompileMode = "off" if where.pretended else options.compile
    setup = replace(where.setup, profile=profile, compile_mode=mode)
    networks = _read_networks(setup)
    theirs, ours = StockInpainter(networks, profile.inpainter, DEVICE), load_ours(setup)
    # Both lie on the card, and each is to be seen without the other.
    other_gib = size_bytes(networks.modules) / GIB
    unet = ours._unet
    row_flops = cost_of(unet, _unet_call(unet, 1, side // 8, unet.dtype, 1)).flops
    stages = _stages(setup, ours)
    stock = replace(stages, inpainter=theirs).assemble(profile)
    detailer = stages.assemble(profile)
    started = time.perf_counter()
    if mode != "off":
        pipeline = theirs._pipeline
        compile_networks(pipeline.unet, pipeline.vae.decoder, mode)
        # Before ours: after its last shape nothing more is compiled.
        repaint_s(stock, where.workload(1, few=True))
        compile_networks(unet, ours.networks["VAE decoder"], mode)
        ours.compile_for([side])
        sheet.add(compiled=mode, side=side, seconds=round(time.perf_counter() - started, 1))
    for faces in numbers:
        work = where.workload(faces)
        figures: dict[str, object] = {"side": side, "faces": faces, "compile": options.compile}
        for name, walk, inpainter in (("ours", detailer, ours), ("stock", stock, theirs)):
            repaint_s(walk, replace(work, steps=where.few_steps))
            forget()
            before = inpainter.usage().rows
            seconds = repaint_s(walk, work)
            figures[f"{name}_s"] = round(seconds, 3)
            figures[f"{name}_peak_gib"] = round(peak_gib() - other_gib, 2)
            if name == "ours":
                done = (inpainter.usage().rows - before) * row_flops
                figures["tflops"] = round(done / seconds / 1e12, 1)
        sheet.add(**figures)


def modes(where: Place, _options: Options, sheet: Sheet) -> None:
    """What the memory modes need, and take."""
    side = where.sizes[0]
    for mode in ("resident", "offload", "low"):
        setup = replace(where.setup, profile=where.profile(side), memory_mode=mode)
        inpainter = load_ours(setup)
        detailer = _stages(setup, inpainter).assemble(setup.profile)
        work = where.workload(1, few=True)
        repaint_s(detailer, work)
        forget()
        seconds = repaint_s(detailer, work)
        sheet.add(mode=mode, side=side, steps=work.steps, seconds=round(seconds, 3), gib=peak_gib())
        del inpainter, detailer
        forget()


def walks(where: Place) -> tuple[Inpainter, list[FaceDetailer]]:
    """One inpainter, and the walks that share it: one per size."""
    inpainter = load_ours(where.setup)
    stages = _stages(where.setup, inpainter)
    return inpainter, [stages.assemble(where.profile(side)) for side in where.sizes]


def four(where: Place, _options: Options, sheet: Sheet) -> None:
    """Four requests at a time, as `FACE_DETAILER_WORKER_CONCURRENCY` has it."""
    _inpainter, (detailer, *_) = walks(where)
    work = where.workload(where.faces[-1], few=True)
    repaint_s(detailer, work)
    forget()
    started = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: repaint_s(detailer, work), range(4)))
    sheet.add(
        requests=4,
        faces=work.faces,
        side=where.sizes[0],
        seconds=round(time.perf_counter() - started, 2),
        gib=peak_gib(),
        reserved_gib=round(torch.cuda.max_memory_reserved(DEVICE) / GIB, 2),
    )


def soak(where: Place, options: Options, sheet: Sheet) -> None:
    """Four clients for a while: any number of faces, every size, one in eight gives up midway."""
    _inpainter, detailers = walks(where)
    until = time.monotonic() + options.seconds
    counted, lock = {"done": 0, "stopped": 0, "failed": 0, "faces": 0}, threading.Lock()

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until:
            work = where.workload(chance.choice(where.faces), few=chance.random() < 0.5)
            left = chance.randrange(1, 20) if chance.random() < 1 / 8 else None
            how = _walk_once(chance.choice(detailers), work, left, until + GRACE_S)
            with lock:
                counted[how] += 1
                counted["faces"] += work.faces * (how == "done")

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for thread in clients:
        thread.start()
    started = time.monotonic()
    while any(thread.is_alive() for thread in clients):
        time.sleep(min(15.0, options.seconds / 4))
        sheet.add(
            seconds=round(time.monotonic() - started),
            **counted,
            allocated_gib=round(torch.cuda.memory_allocated(DEVICE) / GIB, 2),
            reserved_gib=round(torch.cuda.memory_reserved(DEVICE) / GIB, 2),
        )
    if counted["failed"] or not counted["done"]:
        raise SystemExit(f"the soak ended with {counted}")


def _walk_once(detailer: FaceDetailer, work: Workload, left: int | None, until: float) -> str:
    """What became of it. It is stopped after `left` questions whether to stop, and at `until`."""
    asked = itertools.count(1)

    def should_stop() -> bool:
        return next(asked) == left or time.monotonic() > until

    try:
        detailer.detail_faces(work.request(), work.boxes(), should_stop=should_stop)
    except Stopped:
        return "stopped"
    except Exception as error:  # noqa: BLE001 - the others go on, and the sum says it
        print(f"{type(error).__name__}: {error}", flush=True)
        return "failed"
    return "done"


STEPS: dict[str, Callable[[Place, Options, Sheet], None]] = {
    step.__name__: step for step in (about, bench, modes, four, soak)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", type=int)
    parser.add_argument("--compile", choices=("off", "regional", "full"), default="off")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--pretend", action="store_true")
    given = parser.parse_args()
    options = Options(None if given.pretend else given.size, given.compile, given.seconds)
    with place(pretend=given.pretend) as where:
        STEPS[given.step](where, options, Sheet(given.file, []))


if __name__ == "__main__":
    main()
