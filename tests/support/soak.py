"""Calls a server for minutes at three times what its workers can do, and sees that it stays as it
was: `make soak MINUTES=30`.

A real server on workers that take a stated time for each job. What callers saw, how long `/health`
took, the memory of the processes and every credit are held against bounds; exit code 1 if one is
broken.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from soak_callers import Callers
from soak_report import CREDITS, PRICE_UNITS, UNITS, Bounds, Seen, report
from steered_server import steered

HEADERS_S = 5.0
REPLY_S = 5.0
TIMES_CAPACITY = 3
AT_A_TIME = 4
QUEUE = 32
_CALLERS = 300
_LOOK_EVERY_S = 1.0
_ASK_EVERY_S = 0.02


def watch(url: str, pid: int) -> None:
    """Print what is seen, a line a second, until the server is gone or nobody reads. A process of
    its own, since a thread would wait for the callers'.
    """
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        while True:
            waits, until_s = [], time.monotonic() + _LOOK_EVERY_S
            while time.monotonic() < until_s:
                started = time.perf_counter()
                client.get("/health").raise_for_status()
                waits.append(time.perf_counter() - started)
                time.sleep(_ASK_EVERY_S)
            workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            memory = [_status(int(number), "VmRSS") / 1024 for number in (pid, *workers)]
            seen = (time.monotonic(), memory[0], sum(memory[1:]), _status(pid, "Threads"), waits)
            print(json.dumps(seen), flush=True)


def _status(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


@contextlib.contextmanager
def served(folder: Path, service_s: float, **settings: str):
    """The server and its callers."""
    with steered(
        folder,
        worker_concurrency=str(AT_A_TIME),
        queue_size=str(QUEUE),
        cost_per_sample=str(PRICE_UNITS / UNITS),
        header_timeout_s=str(HEADERS_S),
        reply_timeout_s=str(REPLY_S),
        max_stored_jobs_per_account="50",
        **settings,
    ) as server:
        keys = [server.new_key(CREDITS) for _ in range(4)]
        port = int(server.url.rpartition(":")[2])
        yield server, Callers(port, *keys, service_s=service_s)


def call_for(callers: Callers, seconds: float, calls_a_second: float) -> None:
    """Begin calls at this rate, of all kinds evenly, and wait for the last answers."""
    kinds = [kind for kind, (_, share) in callers.kinds.items() for _ in range(share)]
    np.random.default_rng(1).shuffle(kinds)
    with ThreadPoolExecutor(_CALLERS) as pool:
        for i in range(int(seconds * calls_a_second)):
            pause_s = callers.begun_s + i / calls_a_second - time.monotonic()
            time.sleep(max(0.0, pause_s))
            pool.submit(callers.call, kinds[i % len(kinds)])


def soak(folder: Path, minutes: float, service_s: float, bounds: Bounds) -> list[str]:
    """Call for so long, and print what was seen; the broken bounds, a sentence each."""
    capacity = AT_A_TIME / service_s
    rate = TIMES_CAPACITY * capacity
    print(
        f"{minutes:g} minutes of {rate:g} calls a second: {TIMES_CAPACITY} times what {AT_A_TIME}"
    )
    print(f"  jobs at a time of {service_s:g} s each can be", flush=True)
    with served(folder, service_s) as (server, callers):
        command = [sys.executable, __file__, "--watch", server.url, str(server.process.pid)]
        seen: list[Seen] = []
        with subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE) as watcher:

            def listen() -> None:
                for line in watcher.stdout:
                    seen.append(second := Seen(*json.loads(line)))
                    if len(seen) % 60 == 0:
                        print(f"  {len(seen) // 60} min: {second.server_mib:.0f} MiB", flush=True)

            listener = threading.Thread(target=listen)
            listener.start()
            # As it is before the first call.
            while not seen:
                time.sleep(_LOOK_EVERY_S)
            callers.begun_s = time.monotonic()
            call_for(callers, minutes * 60, rate)
            watcher.terminate()
            listener.join()
        return report(server, callers, seen, bounds)


def main() -> int:
    """Soak as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--service-s", type=float, default=0.5, help="what one job takes")
    parser.add_argument("--good-p99-s", type=float, default=30.0)
    parser.add_argument("--health-p99-s", type=float, default=0.5)
    parser.add_argument("--slope-mib", type=float, default=3.0, help="a minute, in the second half")
    parser.add_argument("--watch", nargs=2, metavar=("URL", "PID"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        watch(options.watch[0], int(options.watch[1]))
        return 0
    bounds = Bounds(options.good_p99_s, options.health_p99_s, options.slope_mib)
    with tempfile.TemporaryDirectory() as folder:
        faults = soak(Path(folder), options.minutes, options.service_s, bounds)
    print("\n".join(f"broken: {fault}" for fault in faults) or "All bounds are kept.")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
