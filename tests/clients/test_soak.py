"""The short form of `make soak`: its bounds are kept, and one that is not is told."""

import subprocess
import sys

import pytest
import soak


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_half_a_minute_at_three_times_the_capacity() -> None:
    command = [sys.executable, soak.__file__, "--minutes", "0.4"]
    # So short a time says nothing of a slope, and a busy machine nothing of times.
    bounds = {"--slope-mib": "100000", "--good-p99-s": "60", "--health-p99-s": "0"}
    options = [word for option in bounds.items() for word in option]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    broken = [line for line in done.stdout.splitlines() if line.startswith("broken: ")]
    assert len(broken) == 1, done.stdout + done.stderr
    assert broken[0].startswith("broken: /health: p99 is ")
    assert done.returncode == 1
