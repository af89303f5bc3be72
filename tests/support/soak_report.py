"""What a soak shows at its end: answers, times, memory and credits, each with its bound."""

import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from soak_callers import Answer, Callers
from steered_server import Steered

UNITS = 10**10
# To be seen to the last digit.
PRICE_UNITS = 123_456_789
CREDITS = 100_000
_LATEST_S = 180.0
_REFUSED = 429
_SECONDS_OF_A_LEAST = 15


@dataclass(frozen=True, slots=True)
class Bounds:
    """What must not be passed. `slope_mib`: of the server process's memory, a minute, see
    `slope_of`. `good_p99_s`: of the good requests that were answered 200.
    """

    good_p99_s: float
    health_p99_s: float
    slope_mib: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What one second of the watch saw: the memory of server and workers, and `/health`."""

    at_s: float
    server_mib: float
    workers_mib: float
    threads: int
    waits_s: list[float]


def faults_of_credits(server: Steered, callers: Callers) -> list[str]:
    """What does not agree to the last digit, when everything has ended; and prints what does."""
    deadline = time.monotonic() + _LATEST_S
    unended = "SELECT 1 FROM jobs WHERE state IN ('QUEUED', 'PROCESSING') UNION SELECT 1 FROM holds"
    while server.rows(unended) and time.monotonic() < deadline:
        time.sleep(0.2)
    paid = sum(a.status == 200 and a.kind == "good" for a in callers.answers)
    patient = sum(a.status == 200 and a.kind in ("slow", "30 MB") for a in callers.answers)
    ((done,),) = server.rows("SELECT count(*) FROM jobs WHERE state = 'COMPLETED'")
    balances = dict(server.rows("SELECT id, balance_units FROM accounts"))
    # The first account is of `steered`, and makes no calls.
    good, slow, bad, gone = (balances[number] for number in (2, 3, 4, 5))
    ((hung_up,),) = server.rows("SELECT count(*) FROM ledger WHERE account_id = 5 AND units < 0")
    wanted = {
        "the good callers' balance": (good, _left(paid + done)),
        "the balance of slow and large bodies": (slow, _left(patient)),
        "the bad callers' balance": (bad, _left(0)),
        "the balance of those who hung up": (gone, _left(hung_up)),
        "stored jobs": (done, len(callers.queued)),
        "what is set aside": (server.rows(unended), []),
        "balances that are not the sum of their entries": (
            server.rows(
                "SELECT id FROM accounts a WHERE NOT unlimited AND balance_units <> "
                "(SELECT sum(units) FROM ledger WHERE account_id = a.id)",
            ),
            [],
        ),
        "face-detailer credits audit": (server.command("credits", "audit").returncode, 0),
    }
    print(
        f"credits: {paid + patient} calls and {done} stored requests were answered, and charged "
        f"once each,\n  {_credits(good)} and {_credits(slow)} of {CREDITS} are left; of those who "
        f"hung up {hung_up} were done before, and charged"
    )
    return [f"{what}: {got}, not {want}" for what, (got, want) in wanted.items() if got != want]


def _left(charges: int) -> int:
    return CREDITS * UNITS - charges * PRICE_UNITS


def _credits(units: int) -> Decimal:
    return Decimal(units) / UNITS


def report(server: Steered, callers: Callers, seen: list[Seen], bounds: Bounds) -> list[str]:
    """Print what was seen; the broken bounds, a sentence each."""
    print_answers(callers)
    faults = [*callers.faults, *faults_of_credits(server, callers)]
    faults += faults_of_times(callers.answers, seen, bounds)
    faults += faults_of_memory(callers, seen, bounds)
    if "Traceback" in server.log:
        faults.append("there is a traceback in the log")
    return faults


def print_answers(callers: Callers) -> None:
    """Of each kind how many calls there were, and how they were answered."""
    answers, unanswered = callers.answers, len(callers.faults)
    refused = sum(answer.status == _REFUSED for answer in answers)
    hung_up = sum(answer.kind == "hung up" for answer in answers)
    print(
        f"{len(answers)} calls: {len(answers) - hung_up - unanswered} answered, {refused} of them "
        f"with {_REFUSED}; {hung_up} hung up; {unanswered} without an answer"
    )
    for kind in sorted({answer.kind for answer in answers}):
        found = Counter(answer.status for answer in answers if answer.kind == kind)
        texts = [f"{status or 'hung up'}: {count}" for status, count in sorted(found.items())]
        print(f"  {kind:20} {found.total():6}   {', '.join(texts)}")


def faults_of_times(answers: list[Answer], seen: list[Seen], bounds: Bounds) -> list[str]:
    """How long good requests and `/health` took."""
    faults = []
    good = [a.ended_s - a.begun_s for a in answers if (a.kind, a.status) == ("good", 200)]
    health = [wait_s for second in seen for wait_s in second.waits_s]
    for what, times_s, bound_s in (
        ("good requests", good, bounds.good_p99_s),
        ("/health", health, bounds.health_p99_s),
    ):
        p50_s, p99_s = np.percentile(times_s, (50, 99))
        print(f"{what}: p50 {p50_s:.3f} s, p99 {p99_s:.3f} s (bound {bound_s:g})")
        if p99_s > bound_s:
            faults.append(f"{what}: p99 is {p99_s:.3f} s, more than {bound_s:g}")
    return faults


def faults_of_memory(callers: Callers, seen: list[Seen], bounds: Bounds) -> list[str]:
    """How it grew while calls began; it falls while the last answers are waited for."""
    until_s = callers.begun_s + max(answer.begun_s for answer in callers.answers)
    calling = [s for s in seen if s.at_s <= until_s]
    at_s = [s.at_s for s in calling]
    slope = slope_of(at_s, [s.server_mib for s in calling])
    workers_slope = slope_of(at_s, [s.workers_mib for s in calling])
    first, last = seen[0], seen[-1]
    print(
        f"server process: {first.server_mib:.0f} MiB at the start, {last.server_mib:.0f} at the "
        f"end, {max(s.server_mib for s in seen):.0f} at most, {last.threads} threads;\n"
        f"  {slope:+.2f} MiB a minute over the second half (bound {bounds.slope_mib:g})\n"
        f"workers: {first.workers_mib:.0f} MiB at the start, {last.workers_mib:.0f} at the end; "
        f"{workers_slope:+.2f} a minute"
    )
    return [f"the server grows by {slope:.2f} MiB a minute"] if slope > bounds.slope_mib else []


def slope_of(at_s: list[float], mib: list[float]) -> float:
    """MiB a minute, by least squares over the second half.

    Of a quarter of a minute the least counts: what bodies that come and go take is no growth, and
    with 30 MB each they would hide one.
    """
    half, many = len(at_s) // 2, _SECONDS_OF_A_LEAST
    begins = range(half, max(half + 1, len(at_s) - many), many)
    least = [min(zip(mib[i : i + many], at_s[i : i + many], strict=True)) for i in begins]
    if len(least) == 1:
        return 0.0
    return float(np.polyfit([second / 60 for _, second in least], [m for m, _ in least], 1)[0])
