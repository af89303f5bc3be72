"""`face-detailer load`: what a running server does under load, as a table and as JSON."""

import contextlib
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.errors import OperatorError, StoppedByUser

if TYPE_CHECKING:
    import httpx

# Longer than a server's own deadline, whose 504 is an answer.
_PATIENCE_S = 600.0
_NO_ANSWER = 0
_OK = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Times in seconds, from the first call on. `status`: 0 where there was no answer."""

    begun_s: float
    ended_s: float
    status: int


@dataclass(frozen=True, slots=True)
class Target:
    """What is called, and with what. `fields`: of the form, beside the picture."""

    url: str
    key: str
    picture: bytes
    fields: dict[str, str]


def load(
    picture: Annotated[Path, typer.Argument(help="The picture that every call sends.")],
    url: Annotated[str, typer.Option(help="The server's address.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(help="An API key.", envvar="FACE_DETAILER_KEY")] = "",
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Calls at a time.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long to call.")] = 60.0,
    prompt: Annotated[str, typer.Option(help="As in a call.")] = "detailed face",
    denoise: Annotated[float, typer.Option(help="As in a call.")] = 0.4,
    output: Annotated[Path | None, typer.Option("--json", help="Write every call's times.")] = None,
) -> None:
    """Call a running server again and again, and show how many calls it answers, and how fast.

    Every client sends its next call as soon as it has its answer. The calls are ordinary ones and
    cost credits. Ctrl-C ends it sooner: the last answers are waited for, and the figures shown.
    """
    from server.cli.batch import until_interrupted
    from server.cli.outputs import check_folders
    from server.cli.remote import open_client
    from server.cli.tables import print_table

    if output is not None:
        check_folders([output])
    # Its constructor looks at both.
    open_client(url, key).close()
    url, key = url.strip(), key.strip()
    try:
        data = picture.read_bytes()
    except OSError as error:
        raise OperatorError(f"{picture} cannot be read: {error.strerror}.") from error
    target = Target(url, key, data, {"prompt": prompt, "denoise": str(denoise), "base64": "false"})
    stop = threading.Event()
    with until_interrupted(stop):
        calls = measure(target, clients, seconds, stop)
    print_table(["status", "calls", "a second", "p50 s", "p99 s"], rows_of(calls))
    if output is not None:
        _write(calls, output)
    if stop.is_set():
        raise StoppedByUser("Stopped: the figures are those of the calls until then.")
    if not any(call.status == _OK for call in calls):
        raise OperatorError(f"No call to {url} was answered with 200.")


def measure(target: Target, clients: int, seconds: float, stop: threading.Event) -> list[Call]:
    """Call for so long, or until `stop` is set, then wait for the last answers; the calls in the
    order of their ends.
    """
    import httpx

    calls: list[Call] = []
    over = threading.Event()

    def keep_calling(client: httpx.Client) -> None:
        while not over.is_set():
            begun_s = time.monotonic() - started
            status = _one(client, target)
            calls.append(Call(begun_s, time.monotonic() - started, status))
            if status == _NO_ANSWER:
                over.wait(1.0)

    with contextlib.ExitStack() as stack:
        # One for all: it takes longer to make than a client.
        tls = httpx.create_ssl_context()
        lines = [
            stack.enter_context(httpx.Client(base_url=target.url, timeout=_PATIENCE_S, verify=tls))
            for _ in range(clients)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(clients))
        started = time.monotonic()
        callers = [pool.submit(keep_calling, line) for line in lines]
        stop.wait(seconds)
        over.set()
        for caller in callers:
            caller.result()
    return sorted(calls, key=lambda call: call.ended_s)


def _one(client: "httpx.Client", target: Target) -> int:
    import httpx

    try:
        reply = client.post(
            "/v1/face-detailer",
            headers={"x-api-key": target.key},
            data=target.fields,
            files={"image": target.picture},
        )
    except httpx.RequestError:
        return _NO_ANSWER
    return reply.status_code


def _write(calls: list[Call], output: Path) -> None:
    from weights.files import write_file

    text = json.dumps([[call.begun_s, call.ended_s, call.status] for call in calls])
    try:
        write_file(output, f"{text}\n".encode())
    except OSError as error:
        raise OperatorError(f"{output}: {error.strerror}") from error


def rows_of(calls: list[Call]) -> list[list[str]]:
    """A table's rows: for every status how many calls, how many a second, and their times."""
    whole_s = max((call.ended_s for call in calls), default=1.0)
    rows = []
    for status, count in sorted(Counter(call.status for call in calls).items()):
        times = sorted(c.ended_s - c.begun_s for c in calls if c.status == status)
        p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
        name = "no answer" if status == _NO_ANSWER else str(status)
        rows.append([name, str(count), f"{count / whole_s:.2f}", f"{p50:.3f}", f"{p99:.3f}"])
    return rows
