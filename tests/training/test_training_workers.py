"""That processes which train together stay together."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training import common

SCRIPT = """
import sys, torch
from training import common, workers
number = workers.join()
torch.manual_seed(number)
model = torch.nn.Linear(4, 3)
with torch.no_grad():
    for weight in model.parameters():
        weight.fill_(1.0)
optimizer = torch.optim.AdamW(model.parameters())
average = common.Average(model)
inputs = torch.randn(5, 4)
for _ in range(3):
    loss = model(inputs).square().mean()
    common.take_step(loss, model, optimizer, average, rate=0.1, clip=100.0)
seconds = common.Budget(100.0, spent_s=number * 50.0)
next(seconds.steps())
state = {"weight": model.weight.data, "inputs": inputs, "share": torch.tensor(seconds.share())}
torch.save(state, f"{sys.argv[1]}/{number}.pt")
"""


@pytest.mark.slow
def test_two_processes_take_the_same_steps_from_batches_of_their_own(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    root = Path(__file__).parents[2]
    subprocess.run(
        [*command, str(script), str(tmp_path)],
        cwd=root,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    first, second = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in range(2))
    assert not torch.equal(first["inputs"], second["inputs"])
    assert torch.equal(first["weight"], second["weight"])
    assert first["share"] == second["share"] < 0.4


def test_minutes_are_minutes_of_steps_whatever_was_prepared_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=0.0, monotonic=lambda: clock.now_s)
    monkeypatch.setattr(common, "time", clock)
    budget = common.Budget(0.25)
    clock.now_s += 100
    assert budget.elapsed_s() == 0
    steps = 0
    for _ in budget.steps():
        clock.now_s += 0.0625
        steps += 1
    assert steps == 4
    assert budget.elapsed_s() == 0.25
