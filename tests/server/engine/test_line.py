"""What a worker says while its parent does not read: the work goes on."""

import contextlib
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import worker_loads
from workers_support import job, loader, png

from server.engine.messages import (
    Answer,
    FromWorker,
    JobProgress,
    LogLine,
    Ready,
    Setup,
    Vitals,
    pack,
    unpack,
)
from server.types import Job, Outcome


class Parent:
    """The other end of a real worker, which reads when it is asked to."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._reader = end.makefile("rb")

    def send(self, message: Setup | Job) -> None:
        self.end.sendall(b"".join(pack(message)))

    def receive(self) -> FromWorker:
        message = unpack(self._reader.read)
        assert isinstance(message, FromWorker)
        return message


@pytest.fixture
def parent() -> Iterator[Parent]:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "server.engine.worker", str(theirs.fileno())]
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    with (
        contextlib.closing(ours),
        subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, start_new_session=True
        ) as child,
    ):
        theirs.close()
        try:
            yield Parent(ours)
        finally:
            child.kill()


def setup(vitals_every_s: float = 3600) -> Setup:
    return Setup(
        load=loader(worker_loads.inverter),
        profile_path=Path("tiny"),
        device="cpu",
        memory_mode="auto",
        compile_mode="off",
        identity="off",
        compiled=Path("compiled"),
        concurrency=2,
        max_image_pixels=50_000_000,
        max_side_px=8192,
        keep_exif=False,
        log_level=logging.INFO,
        vitals_every_s=vitals_every_s,
    )


def test_a_worker_says_how_it_is_also_without_a_job(parent: Parent) -> None:
    parent.send(setup(vitals_every_s=0.05))
    assert isinstance(parent.receive(), Ready)
    for _ in range(2):
        vitals = parent.receive()
        assert isinstance(vitals, Vitals)
        assert vitals.resident_bytes > 10_000_000


@pytest.mark.slow
def test_steps_and_log_do_not_wait_behind_an_answer_that_nobody_reads(
    parent: Parent, tmp_path: Path
) -> None:
    ready = tmp_path / "go"
    parent.send(setup())
    assert isinstance(parent.receive(), Ready)
    noise = np.random.default_rng(1).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    large, timed = job(picture=png(noise)), job(f"time_steps={ready}")
    parent.send(large)
    # The answer of 36 MB has begun to arrive; from here on nobody reads.
    parent.end.recv(1, socket.MSG_PEEK)
    parent.send(timed)
    ready.touch()
    slowest = Path(f"{ready}.slowest")
    deadline = time.monotonic() + 60
    while not slowest.exists():
        assert time.monotonic() < deadline, "the loop waits for the reader"
        time.sleep(0.01)
    assert float(slowest.read_text()) < 10
    heard: list[FromWorker] = []
    while not (heard and isinstance(heard[-1], Answer) and heard[-1].job_id == timed.id):
        heard.append(parent.receive())
    answer = heard[0]
    assert isinstance(answer, Answer)
    assert answer.job_id == large.id
    assert isinstance(answer.answer, Outcome)
    assert sum(map(len, answer.answer.pictures)) > 30_000_000
    steps = [message for message in heard if isinstance(message, JobProgress)]
    assert steps[-1] == JobProgress(timed.id, worker_loads.step(200, 200))
    assert len(steps) < 20, "only the latest step is worth a message"
    assert sum(isinstance(message, LogLine) for message in heard) == 200
