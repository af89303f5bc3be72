"""The memory of large buffers goes back to the system, however small things lie between them."""

import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import sys
from pathlib import Path
from server.memory import return_large_buffers

def resident_mib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024

if sys.argv[1] == "returned":
    return_large_buffers()
# One that was freed is what makes glibc keep those that are smaller.
del (first := [bytearray(30 * 2**20)])[:]
kept, bodies = [], []
before = resident_mib()
for _ in range(20):
    bodies.append(bytearray(b"x") * (20 * 2**20))
    kept.append(bytearray(2000))
bodies.clear()
print(resident_mib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize(("how", "most", "least"), [("returned", 40, 0), ("as it is", 1000, 200)])
def test_bodies_are_gone_when_they_are_freed(how: str, most: int, least: int) -> None:
    command = [sys.executable, "-c", LOAD, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most
