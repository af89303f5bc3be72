"""What a call that waits for its turn costs the server: its picture once, however it came."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from soak_callers import Body, as_form, as_json, large_picture
from steered_server import Steered, steered
from waiting import until
from workers_support import begun

WAITING = 3


def resident_bytes(server: Steered) -> int:
    assert server.process
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("make", [as_form, as_json])
def test_a_picture_that_waits_is_kept_once(tmp_path: Path, make: Callable[..., Body]) -> None:
    picture = large_picture()
    with steered(tmp_path, worker_concurrency="1") as server:
        first = server.begin_post(f"wait_for={tmp_path / 'a'}")
        until(lambda: begun(tmp_path / "a"))
        body = make(picture, prompt="", denoise=0.4, image_format="jpeg")
        headers = {"x-api-key": server.key, "content-type": body.kind}
        path, before = f"{server.url}/v1/face-detailer", resident_bytes(server)
        statuses = []

        def call() -> None:
            reply = httpx.post(
                path, content=body.content, headers=headers, timeout=120, trust_env=False
            )
            statuses.append(reply.status_code)

        callers = [threading.Thread(target=call) for _ in range(WAITING)]
        for caller in callers:
            caller.start()
        held = "SELECT count(*) FROM holds"
        until(lambda: server.rows(held) == [(WAITING + 1,)])
        time.sleep(1)
        grown = resident_bytes(server) - before
        (tmp_path / "a").touch()
        for caller in callers:
            caller.join()
        assert first.wait().status_code == 200
    assert statuses == [200] * WAITING
    assert WAITING * len(picture) * 0.9 < grown < WAITING * len(picture) * 1.3


@pytest.mark.slow
def test_a_picture_goes_with_the_sender_who_hung_up(tmp_path: Path) -> None:
    """Long before the deadline of its job, until which a job that does not stop may run."""
    body = as_form(large_picture(), prompt="linger=3", denoise=0.4, image_format="jpeg")
    with steered(tmp_path) as server:
        headers = {"x-api-key": server.key, "content-type": body.kind}
        path, before = f"{server.url}/v1/face-detailer", resident_bytes(server)
        for _ in range(4):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    path,
                    content=body.content,
                    headers=headers,
                    timeout=httpx.Timeout(60, read=0.25),
                    trust_env=False,
                )
        until(lambda: server.rows("SELECT count(*) FROM holds") == [(0,)])
        until(lambda: resident_bytes(server) - before < len(body.content))
