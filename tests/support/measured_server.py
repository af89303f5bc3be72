"""A server in a process of its own: how much memory calls cost it, and how long others wait."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

MIB = 2**20
_EVERY_S = 0.01


@dataclass
class Watched:
    """What was seen while calls ran. `grown_mib`: peak of the process's memory over its start."""

    grown_mib: float = 0.0
    waits_s: list[float] = field(default_factory=list)

    @property
    def p99_s(self) -> float:
        """What 99 in 100 calls of `/health` took at most."""
        return sorted(self.waits_s)[int(len(self.waits_s) * 0.99)]


@dataclass
class MeasuredServer:
    """A running server. `client` sends its one key, of an unlimited account."""

    url: str
    key: str
    pid: int
    client: httpx.Client

    @contextlib.contextmanager
    def watched(self) -> Iterator[Watched]:
        """Look at the server until the block is left."""
        # Writing 5 sets the peak back to what is used now: proc_pid_clear_refs(5).
        peak = Path(f"/proc/{self.pid}/clear_refs")
        if not peak.exists():
            pytest.skip("this kernel does not say how much memory a process has used at most")
        peak.write_text("5")
        before, seen, over = self._memory_mib("VmRSS"), Watched(), threading.Event()
        watcher = threading.Thread(target=self._ask, args=(seen, over))
        watcher.start()
        try:
            yield seen
        finally:
            over.set()
            watcher.join()
            seen.grown_mib = self._memory_mib("VmHWM") - before

    def _ask(self, seen: Watched, over: threading.Event) -> None:
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not over.wait(_EVERY_S) or not seen.waits_s:
                started = time.perf_counter()
                assert client.get("/health").status_code == 200
                seen.waits_s.append(time.perf_counter() - started)

    def _memory_mib(self, name: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def measured(folder: Path, **settings: object) -> Iterator[MeasuredServer]:
    """A server on loopback with these settings, which answers with the picture it was sent."""
    given = json.dumps({"data_dir": str(folder), **settings})
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, __file__, given], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout
        url, key = process.stdout.readline().split()
        headers = {"x-api-key": key}
        with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
            assert client.get("/health").status_code == 200
            yield MeasuredServer(url, key, process.pid, client)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def main() -> None:
    from http_service import ResizeEngine, running

    from server.settings import Settings
    from server.types import Job, Outcome

    class Echo(ResizeEngine):
        async def run(self, job: Job, _on_progress: object = None) -> Outcome:
            return Outcome(pictures=(job.picture[:1000],), width_px=1, height_px=1)

    with running(Settings(**json.loads(sys.argv[1])), Echo()) as service:
        print(service.url, service.new_key(), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
