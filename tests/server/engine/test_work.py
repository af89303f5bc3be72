"""One job, in the process that does it."""

from dataclasses import replace
from pathlib import Path

import pytest
import worker_loads
from workers_support import job, settings

from pipeline.errors import Stopped
from pipeline.request import Selection
from server.engine.plan import setup_of
from server.engine.work import do
from server.types import DetectOptions, Encoding, Job


def looking() -> Job:
    return replace(job(), options=DetectOptions(Selection(), Encoding("png", 95), overlay=False))


def test_whoever_looks_for_faces_is_asked_whether_to_stop() -> None:
    setup = setup_of(settings(), "", Path(), "cpu")
    answers = iter([False, True])

    def attempt() -> int:
        stop = next(answers)
        finder = worker_loads.Finder()
        return len(do(looking(), setup, finder, lambda _now: None, lambda: stop).detections)

    assert attempt() == 1
    with pytest.raises(Stopped):
        attempt()
