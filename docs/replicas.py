"""How much more two replicas do than one, on a cluster of this machine's own, which needs two cores
and should have nothing else to do: `python docs/replicas.py [SECONDS]`.

Each replica runs the profile `tiny` on a core of its own, one call at a time. Everything else
(ingress, Ray's proxy, PostgreSQL, the callers) takes its time from the same cores.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from accounts_fixtures import postgres_binaries, postgres_cluster  # noqa: E402
from ray_cluster import Cluster, cluster  # noqa: E402

from server.cli.load import Target, measure  # noqa: E402

PICTURE = ROOT / "examples" / "astronaut-damaged.jpg"
# Per replica: one whose call is done, and those that Ray may hand on meanwhile.
CLIENTS = 2
WARM_UP_S = 15.0


def one_core_each(application: dict[str, Any]) -> None:
    """Replicas that do real work, one call at a time with one thread of torch's."""
    application["args"] = {"load": "pipeline.loading:load"}
    application["runtime_env"]["env_vars"] |= {
        "FACE_DETAILER_WORKER_CONCURRENCY": "1",
        "FACE_DETAILER_DETECT_CONCURRENCY": "1",
        "OMP_NUM_THREADS": "1",
    }
    ingress, worker = application["deployments"]
    ingress["ray_actor_options"] = {"num_cpus": 0}
    worker["ray_actor_options"] = {"num_cpus": 1}


def pin(processes: list[int]) -> None:
    """Give each process one core, whatever threads it has."""
    for process, core in zip(processes, sorted(os.sched_getaffinity(0)), strict=False):
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def calls_a_minute(served: Cluster, replicas: int, seconds: float) -> float:
    """How many calls so many replicas answer, when there are always some that wait."""
    fields = {"prompt": "detailed face", "denoise": "0.4", "base64": "false"}
    target = Target(served.url, served.new_key(), PICTURE.read_bytes(), fields)
    pin(served.processes("worker"))
    measure(target, CLIENTS * replicas, WARM_UP_S, threading.Event())
    started = time.monotonic()
    calls = measure(target, CLIENTS * replicas, seconds, threading.Event())
    took_s = time.monotonic() - started
    faults = [call.status for call in calls if call.status != 200]
    if faults:
        sys.exit(f"Calls were answered with {faults}.")
    return 60 * len(calls) / took_s


def main() -> None:
    """Measure both, and print them."""
    binaries = postgres_binaries()
    if binaries is None:
        sys.exit("Install PostgreSQL's server first.")
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    rates = []
    for replicas in (1, 2):
        with (
            tempfile.TemporaryDirectory() as folder,
            postgres_cluster(binaries) as database,
            cluster(
                Path(folder),
                database.address,
                workers=replicas,
                ingresses=1,
                change=one_core_each,
            ) as served,
        ):
            rates.append(calls_a_minute(served, replicas, seconds))
        load = os.getloadavg()[0]
        print(f"{replicas}: {rates[-1]:.1f} calls a minute; load average {load:.1f}", flush=True)
    print(f"Two do {rates[1] / rates[0]:.2f} times as much as one.")


if __name__ == "__main__":
    main()
