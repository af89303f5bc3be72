"""The server as `face-detailer serve` runs it, in a process of its own, whose workers do what a
prompt says (`worker_loads`) instead of loading models. It can be killed, ended and started again.
"""

import base64
import contextlib
import functools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import httpx
from http_service import encoded
from server_program import PROGRAM, environment_with
from waiting import until

DEADLINE_S = 60.0
PICTURE = base64.b64encode(encoded()).decode()


@dataclass
class Posted:
    """A call that is on its way in a thread; `reply` or `error` when it has ended."""

    thread: threading.Thread | None = None
    reply: httpx.Response | None = None
    error: Exception | None = None

    def wait(self, within_s: float = DEADLINE_S) -> httpx.Response:
        assert self.thread
        self.thread.join(within_s)
        assert self.reply is not None, self.error or "no answer"
        return self.reply


@dataclass
class Steered:
    """One server on one data folder."""

    folder: Path
    settings: dict[str, str]
    process: subprocess.Popen[str] | None = None
    url: str = ""
    key: str = ""
    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(
            trust_env=False, timeout=DEADLINE_S, limits=httpx.Limits(max_keepalive_connections=0)
        )
    )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    @property
    def environment(self) -> dict[str, str]:
        values = {"data_dir": str(self.data), "devices": "cpu", "profile": "tiny", "port": "0"}
        path = os.pathsep.join(part for part in sys.path if part)
        return environment_with(**{**values, **self.settings}) | {"PYTHONPATH": path}

    def start(self) -> None:
        with (self.folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert "Listening" in line, self.log
        self.url = line.split()[-1]

    def until_ready(self) -> None:
        until(lambda: self.get("/ready").status_code == 200)

    def end(self, how: signal.Signals = signal.SIGTERM, within_s: float = DEADLINE_S) -> float:
        """Send a signal and wait for the end; the seconds that took."""
        assert self.process
        started = time.monotonic()
        self.process.send_signal(how)
        self.process.communicate(timeout=within_s)
        return time.monotonic() - started

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = [PROGRAM, *words]
        return subprocess.run(
            program, env=self.environment, capture_output=True, text=True, check=False
        )

    def new_key(self, credits_: int = 100) -> str:
        self.key = self.command("keys", "create", "--credits", str(credits_)).stdout.split()[-1]
        return self.key

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What a query of the accounts' database finds."""
        file = self.data / "accounts.sqlite3"
        with contextlib.closing(sqlite3.connect(file, timeout=60)) as database:
            return database.execute(query).fetchall()

    def get(self, path: str, **options: object) -> httpx.Response:
        headers = {"x-api-key": self.key}
        return self.client.get(f"{self.url}{path}", headers=headers, **options)

    def post(
        self, prompt: str = "", path: str = "/v1/face-detailer", headers: Mapping[str, str] = {}
    ) -> httpx.Response:
        body = {"image": PICTURE, "prompt": prompt, "denoise": 0.4, "base64": False}
        headers = {"x-api-key": self.key, **headers}
        return self.client.post(f"{self.url}{path}", json=body, headers=headers)

    def begin_post(self, prompt: str = "", path: str = "/v1/face-detailer") -> Posted:
        posted = Posted()

        def call() -> None:
            try:
                posted.reply = self.post(prompt, path)
            except httpx.HTTPError as error:
                posted.error = error

        posted.thread = threading.Thread(target=call, daemon=True)
        posted.thread.start()
        return posted

    def credits(self) -> Decimal:
        return Decimal(str(self.get("/v1/get-user-credits").json()["credits"]))


@contextlib.contextmanager
def steered(folder: Path, **settings: str) -> Iterator[Steered]:
    """A server that is ready, with a key of 100 credits."""
    server = Steered(folder, settings)
    server.new_key()
    try:
        server.start()
        server.until_ready()
        yield server
    finally:
        server.client.close()
        if server.process is not None and server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def main() -> None:
    from server.cli import serving
    from server.engine.workers import WorkerPool
    from server.settings import read_settings

    serving.WorkerPool = functools.partial(WorkerPool, load="worker_loads:inverter")
    serving.serve_until_stopped(read_settings())


if __name__ == "__main__":
    main()
