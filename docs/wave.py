"""Draws scale.md's picture of replicas that come and go with the calls: `python docs/wave.py`.

A cluster on this machine, whose replicas need no GPU and take a second per job.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from accounts_fixtures import postgres_binaries, postgres_cluster  # noqa: E402
from ray_cluster import Cluster, cluster  # noqa: E402

from server.cli.load import Call, Target, measure  # noqa: E402

PICTURE = ROOT / "examples" / "astronaut-damaged.jpg"
# Clients, and for how many seconds.
WAVE = ((2, 40), (12, 80), (2, 100))
SCALING = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 5,
    "downscale_delay_s": 20,
}


def run(served: Cluster) -> tuple[list[Call], list[tuple[float, int]]]:
    """The calls of the whole wave, and how many replicas ran when."""
    target = Target(
        served.url,
        served.new_key(),
        PICTURE.read_bytes(),
        {"prompt": "linger=1", "denoise": "0.4", "base64": "false"},
    )
    over, started, seen = threading.Event(), time.monotonic(), []

    def count() -> None:
        while not over.wait(1.0):
            seen.append((time.monotonic() - started, len(served.processes("worker"))))

    counter = threading.Thread(target=count)
    counter.start()
    calls = []
    for clients, seconds in WAVE:
        begun_s = time.monotonic() - started
        calls += [
            Call(begun_s + call.begun_s, begun_s + call.ended_s, call.status)
            for call in measure(target, clients, seconds, threading.Event())
        ]
    over.set()
    counter.join()
    return calls, seen


def draw(calls: list[Call], seen: list[tuple[float, int]], file: Path) -> None:
    """Replicas, calls at work or waiting, and how long each call took, over time."""
    mpl.use("agg")
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5), dpi=100)
    times = [at_s for at_s, _ in seen]
    above.step(times, [replicas for _, replicas in seen], label="replicas", where="post")
    open_calls = [sum(c.begun_s <= at_s < c.ended_s for c in calls) for at_s in times]
    above.plot(times, open_calls, label="calls at work or waiting", alpha=0.6)
    above.legend(loc="upper right")
    below.plot([c.ended_s for c in calls], [c.ended_s - c.begun_s for c in calls], ".", ms=3)
    below.set_ylabel("seconds a call took")
    below.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    """Run the wave and draw it."""
    binaries = postgres_binaries()
    if binaries is None:
        sys.exit("Install PostgreSQL's server first.")
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres_cluster(binaries) as database,
        cluster(Path(folder), database.address, workers=SCALING, ingresses=1) as served,
    ):
        calls, seen = run(served)
    statuses = {
        status: sum(c.status == status for c in calls) for status in {c.status for c in calls}
    }
    print(statuses, "most replicas:", max(count for _, count in seen), "at last:", seen[-1][1])
    draw(calls, seen, ROOT / "docs" / "images" / "scale-wave.png")


if __name__ == "__main__":
    main()
