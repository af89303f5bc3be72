"""The server on a Ray cluster: the same contract, whatever of it dies or is replaced."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from contract_calls import GOOD
from http_service import encoded
from ray_cluster import Cluster, cluster
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("ray")

PATH = "/v1/face-detailer"


@pytest.fixture(scope="module")
def served(cluster_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with cluster(folder, cluster_database, workers=2, ingresses=2) as served:
        yield served


def detail(client: httpx.Client, prompt: str) -> httpx.Response:
    files = {"image": encoded()}
    return client.post(PATH, data={"prompt": prompt, "denoise": "0.4"}, files=files)


def many(client: httpx.Client, prompt: str, count: int) -> list[Future[httpx.Response]]:
    pool = ThreadPoolExecutor(count)
    return [pool.submit(detail, client, prompt) for _ in range(count)]


def balance(client: httpx.Client) -> float:
    return client.get("/v1/get-user-credits").json()["credits"]


def until_running(served: Cluster, deployment: str, count: int, without: list[int]) -> None:
    deadline = time.monotonic() + 150
    while len(found := served.processes(deployment)) < count or set(found) & set(without):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_call_is_answered_as_by_one_server(served: Cluster) -> None:
    with served.client(served.new_key("1")) as client:
        reply = client.post(PATH, json=GOOD | {"prompt": "steps=1"})
        assert reply.status_code == 200
        (request_id,) = reply.headers.get_list("x-request-id")
        assert len(request_id) == 32
        assert reply.headers["x-remaining-credits"] == "0.99"
        assert balance(client) == 0.99
        refused = client.post(PATH, json={})
        assert refused.status_code == 400
        assert len(refused.headers.get_list("x-request-id")) == 1
        assert client.get("/nowhere").json() == {"error": "The requested URL does not exist"}


def test_every_server_counts_the_replicas_and_its_own_calls(served: Cluster) -> None:
    ready = 'face_detailer_worker_state{device="cluster",state="ready"} 2.0'
    done = 'face_detailer_jobs_total{end="done",kind="detail"} '
    with served.client(served.new_key("500")) as client:

        def lines() -> list[str]:
            return client.get("/metrics").text.splitlines()

        def is_counted() -> bool:
            assert client.post(PATH, json=GOOD | {"prompt": "steps=1"}).status_code == 200
            return any(float(line.removeprefix(done)) for line in lines() if line.startswith(done))

        # Eight answers come from both servers, each of which looks for replicas once a second.
        until(lambda: all(ready in lines() for _ in range(8)))
        until(is_counted)


def test_a_stored_job_is_followed_whichever_server_answers(served: Cluster) -> None:
    with served.client(served.new_key("1")) as client:
        accepted = client.post("/v2/face-detailer", json=GOOD | {"prompt": "linger=1"}).json()
        for _ in range(200):
            status = client.get(accepted["status_url"]).json()
            if status["status"] == "COMPLETED":
                break
            time.sleep(0.1)
        done = client.get(accepted["response_url"]).json()
        assert done["status"] == "COMPLETED"
        assert balance(client) == 0.99


def test_a_replica_killed_at_work_loses_no_call_and_nobody_pays_twice(served: Cluster) -> None:
    with served.client(served.new_key("1")) as client:
        calls = many(client, "linger=2", 4)
        time.sleep(1)
        workers = served.processes("worker")
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        assert [call.result().status_code for call in calls] == [200] * 4
        assert balance(client) == pytest.approx(0.96)
    until_running(served, "worker", 2, without=workers[:1])


def test_a_stored_job_outlives_the_server_that_does_it(served: Cluster) -> None:
    with served.client(served.new_key("1")) as client:
        body = GOOD | {"prompt": "linger=3"}
        accepted = client.post("/v2/face-detailer", json=body).json()
        while client.get(accepted["status_url"]).json()["status"] == "QUEUED":
            time.sleep(0.05)
        servers = served.processes("ingress")
        for server in servers:
            os.kill(server, signal.SIGKILL)
        until_running(served, "ingress", 2, without=servers)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            reply = client.get(accepted["status_url"])
            if reply.status_code == 200 and reply.json()["status"] == "COMPLETED":
                break
            time.sleep(0.2)
        assert reply.json()["status"] == "COMPLETED"
        assert balance(client) == 0.99


def test_a_new_deployment_fails_no_call(served: Cluster) -> None:
    workers, servers = served.processes("worker"), served.processes("ingress")
    with served.client(served.new_key("500")) as client, ThreadPoolExecutor(4) as pool:
        replies: list[int] = []
        replaced = threading.Event()

        def keep_calling() -> None:
            while not replaced.is_set():
                replies.append(detail(client, "linger=0.1").status_code)

        callers = [pool.submit(keep_calling) for _ in range(3)]
        try:
            served.deploy(FACE_DETAILER_MAX_FACES="7")
            until_running(served, "worker", 2, without=workers)
            until_running(served, "ingress", 2, without=servers)
        finally:
            replaced.set()
        for caller in callers:
            caller.result()
        assert set(replies) == {200}
        assert len(replies) > 10
        assert balance(client) == pytest.approx(500 - 0.01 * len(replies))
