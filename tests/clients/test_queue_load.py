"""Two hundred requests at once: each is answered and paid once; the HTTP process stays small."""

import base64
import io
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo
from server_program import PROGRAM, run_server, wait_until_ready

JOBS = 200
DEADLINE_S = 500.0
MIB = 2**20


class Memory:
    """The resident memory of a process, looked at ten times a second."""

    def __init__(self, process_id: int) -> None:
        self._status = Path(f"/proc/{process_id}/status")
        self._stopped = threading.Event()
        self.start = self.peak = self.now()

    def now(self) -> int:
        """Bytes."""
        line = next(x for x in self._status.read_text().splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def watch(self) -> None:
        while not self._stopped.wait(0.1):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> "Memory":
        self._thread = threading.Thread(target=self.watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture
def server(
    environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server of its own, its address and a key."""
    own = environment | {"FACE_DETAILER_DATA_DIR": str(tmp_path / "data")}
    command = [PROGRAM, "keys", "create", "--credits", "10"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    process, url = run_server(tmp_path, own)
    try:
        wait_until_ready(process, url, tmp_path / "log.txt")
        yield process, url, done.stdout.split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def heavy() -> str:
    """A small picture in a file of half a megabyte, as base64: much to carry, little to do."""
    notes, file = PngInfo(), io.BytesIO()
    notes.add(b"noTe", np.random.default_rng(0).bytes(MIB // 2))
    PIL.Image.new("RGB", (64, 48), "teal").save(file, "png", pnginfo=notes)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_two_hundred_at_once(server: tuple[subprocess.Popen[str], str, str]) -> None:
    process, url, key = server
    picture = heavy()
    with (
        httpx.Client(
            base_url=url,
            headers={"x-api-key": key},
            timeout=120,
            trust_env=False,
            limits=httpx.Limits(max_connections=JOBS),
        ) as client,
        Memory(process.pid) as memory,
        ThreadPoolExecutor(JOBS) as threads,
    ):

        def submit(seed: int) -> str:
            fields = {"prompt": "", "denoise": 0, "upscale": 1, "image_format": "png"}
            body = fields | {"seed": seed, "image": picture}
            reply = client.post("/v2/face-detailer", json=body)
            assert reply.status_code == 200, reply.text
            return str(reply.json()["request_id"])

        accepted = list(threads.map(submit, range(JOBS)))
        assert len(set(accepted)) == JOBS
        queued = memory.now()
        waiting, deadline = set(accepted), time.monotonic() + DEADLINE_S
        while waiting:
            assert time.monotonic() < deadline, len(waiting)
            for request_id in list(waiting)[:20]:
                status = client.get(f"/v2/requests/{request_id}/status").json()
                assert status["status"] != "FAILED", status
                if status["status"] == "COMPLETED":
                    waiting.discard(request_id)
            time.sleep(0.2)
        assert client.get("/v1/get-user-credits").json()["credits"] == 8.0
        end = memory.now()
    sizes = {"start": memory.start, "peak": memory.peak, "queued": queued, "end": end}
    print("MiB:", {name: round(size / MIB) for name, size in sizes.items()})
    # All bodies together are 140 MiB, and as many again while they are read.
    assert memory.peak - memory.start < 400 * MIB
    # None of it is kept for the jobs that wait, and none comes back while they are worked on.
    assert end - memory.start < 200 * MIB
    assert end - queued < 32 * MIB
