"""The figures of scale.md: what one machine does, and what that makes of many.

    python docs/capacity.py holds       # transactions a second of the database in the settings
    python docs/capacity.py plan        # the table, from the constants below
    python docs/capacity.py waits       # the simulation: how long calls wait before a GPU is free

`holds` opens accounts in that database and leaves them there.
"""

import asyncio
import heapq
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from server.accounts.keys import KeyRing
from server.accounts.service import AccountService
from server.settings import read_settings

# Measured on two cores of a virtual machine that had other work beside: `holds`, 32 accounts, with
# fsync; and the processor time of an ingress and of Ray's proxy per call with a JPEG of 1.4 MB.
HOLDS_A_SECOND = 280
INGRESS_CORE_S = 0.057
PROXY_CORE_S = 0.027
# An assumption, not a measurement: a picture with a few faces on a data centre's card.
CALL_S = 6.0
IN_MB, OUT_MB = 3.0, 2.0
"""A photograph as JPEG, and the same after it was enlarged twice."""


@dataclass(frozen=True, slots=True)
class Need:
    """What so many GPUs keep busy."""

    gpus: int
    calls_a_second: float
    ingresses: int
    proxy_cores: float
    database: float
    gbit_a_second: float

    @property
    def row(self) -> str:
        """A line of scale.md's table."""
        return (
            f"| {self.gpus} | {self.calls_a_second:.1f} | {self.ingresses} | "
            f"{self.proxy_cores:.1f} | {self.database:.0%} | {self.gbit_a_second:.2f} |"
        )


def need(gpus: int, busy: float = 0.8) -> Need:
    """`busy`: the share of the time that a GPU works. An ingress, one Python process, is given
    half a core's work. `database`: the share of the holds that one was seen to do.
    """
    calls = gpus * busy / CALL_S
    return Need(
        gpus,
        calls,
        max(2, int(np.ceil(calls * INGRESS_CORE_S / 0.5))),
        calls * PROXY_CORE_S,
        calls / HOLDS_A_SECOND,
        # In at the ingress, on to the replica, back, and out.
        calls * 2 * (IN_MB + OUT_MB) * 8 / 1000,
    )


def waits(gpus: int, busy: float, calls: int, seed: int = 0) -> tuple[float, float]:
    """Median and 99th percentile of the wait for a free GPU, in seconds: calls arrive at random,
    take a log-normal time of mean `CALL_S` (σ 0.5), and each goes to the GPU that is free first.
    """
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(CALL_S / (gpus * busy), calls))
    works = random.lognormal(np.log(CALL_S) - 0.125, 0.5, calls)
    free = [0.0] * gpus
    waited = np.empty(calls)
    for number, (arrival, work) in enumerate(zip(arrivals, works, strict=True)):
        begins = max(arrival, free[0])
        heapq.heapreplace(free, begins + work)
        waited[number] = begins - arrival
    # The first ones find every GPU free.
    settled = waited[calls // 10 :]
    return float(np.median(settled)), float(np.percentile(settled, 99))


async def holds_a_second(accounts: int, seconds: float = 10.0, at_once: int = 32) -> float:
    """How many holds are placed and settled a second, by so many callers of so many accounts."""
    with closing(AccountService.open(read_settings())) as service:
        ring = KeyRing(service._engine)  # noqa: SLF001 - as the command line makes keys
        keys = [ring.create_account("capacity", Decimal(10**6)) for _ in range(accounts)]
        until, done = time.monotonic() + seconds, 0

        async def caller(number: int) -> None:
            nonlocal done
            account = await service.authenticate(keys[number % accounts])
            while time.monotonic() < until:
                # Costs something only where the settings limit rates.
                await service.count_call(account)
                async with service.hold(account, Decimal("0.01")) as hold:
                    hold.settle()
                done += 1

        await asyncio.gather(*(caller(number) for number in range(at_once)))
    return done / seconds


def main() -> None:
    """The command line."""
    match sys.argv[1:]:
        case ["holds"]:
            for accounts in (1, 32):
                holds = asyncio.run(holds_a_second(accounts))
                print(f"{accounts} accounts: {holds:.0f} holds a second")
        case ["plan"]:
            for gpus in (1, 8, 64, 256, 1000):
                print(need(gpus).row)
        case ["waits"]:
            for gpus in (1, 8, 64, 1000):
                for busy in (0.5, 0.8, 0.95):
                    p50, p99 = waits(gpus, busy, max(20_000, 200 * gpus))
                    print(f"{gpus} GPUs, {busy:.0%} busy: p50 {p50:.1f} s, p99 {p99:.1f} s")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
