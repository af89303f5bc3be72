"""What the settings leave open, settled."""

import os

import pytest

from server.devices import plan_workers


def test_without_a_gpu_one_worker_runs_the_tiny_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = plan_workers("auto", "auto")
    assert (plan.devices, plan.profile) == (("cpu",), "tiny")


@pytest.mark.parametrize(
    ("devices", "profile", "expected"),
    [
        (("cpu",), "auto", "tiny"),
        (("cuda:0", "cuda:1"), "auto", "sdxl"),
        (("cuda",), "tiny", "tiny"),
        (("cpu",), "sdxl", "sdxl"),
    ],
)
def test_what_is_set_stays(devices: tuple[str, ...], profile: str, expected: str) -> None:
    plan = plan_workers(devices, profile)
    assert (plan.devices, plan.profile) == (devices, expected)


def test_workers_share_the_cpus() -> None:
    cpus = len(os.sched_getaffinity(0))
    assert plan_workers(("cpu",), "tiny").threads == cpus
    assert plan_workers(("cpu",) * (2 * cpus), "tiny").threads == 1
