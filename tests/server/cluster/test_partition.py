"""Two hosts, as far as one machine can be two: Ray nodes in network namespaces of their own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from pages import ROOT
from ray_cluster import PROGRAMS, environment_of_nodes, new_home, stub_configuration

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
pytest.importorskip("ray")
if shutil.which("ip") is None or os.getuid() != 0:
    pytest.skip("network namespaces take root and `ip`", allow_module_level=True)

HEAD, OTHER = "10.77.0.1", "10.77.0.2"
"""Addresses of the two hosts."""
PICTURE = ROOT / "examples/astronaut-damaged.jpg"
URL = f"http://{HEAD}:8000"


class Hosts:
    """Two network namespaces and the wire between them."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._mark = uuid.uuid4().hex[:6]
        self._environment = environment

    def __enter__(self) -> "Hosts":
        ip("link", "add", f"a{self._mark}", "type", "veth", "peer", "name", f"b{self._mark}")
        for side, address in (("a", HEAD), ("b", OTHER)):
            name = f"{side}{self._mark}"
            ip("netns", "add", name)
            ip("link", "set", name, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for side in "ab":
            name = f"{side}{self._mark}"
            for pid in ip("netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            ip("netns", "del", name)

    def wire(self, state: str) -> None:
        """`state`: up or down."""
        ip("-n", f"a{self._mark}", "link", "set", f"a{self._mark}", state)

    def run(self, side: str, *words: object) -> str:
        """A command on one host; what it prints."""
        command = ["ip", "netns", "exec", f"{side}{self._mark}", *map(str, words)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def hosts(cluster_database: str, tmp_path: Path) -> Iterator[Hosts]:
    home = new_home()
    environment = environment_of_nodes(home, tmp_path, cluster_database)
    config = stub_configuration(HEAD, 8000)
    ingress, worker = config["applications"][0]["deployments"]
    on_the_head = {"num_cpus": 0, "resources": {f"node:{HEAD}": 0.01}}
    ingress |= {"num_replicas": 1, "ray_actor_options": on_the_head}
    worker |= {"num_replicas": 2, "max_replicas_per_node": 1}
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    ray = PROGRAMS / "ray"
    with Hosts(environment) as hosts:
        hosts.run("a", ray, "get-auth-token", "--generate")
        hosts.run("a", ray, "start", "--head", "--node-ip-address", HEAD, "--num-cpus", 1)
        hosts.run("b", ray, "start", f"--address={HEAD}:6379", "--node-ip-address", OTHER)
        hosts.run("a", PROGRAMS / "serve", "deploy", tmp_path / "serve.yaml")
        yield hosts
    shutil.rmtree(home, ignore_errors=True)


def balance(hosts: Hosts, key: str) -> float:
    url, headers = f"{URL}/v1/get-user-credits", {"x-api-key": key}
    ask = f"import httpx; print(httpx.get({url!r}, headers={headers!r}).text)"
    said = hosts.run("a", sys.executable, "-c", ask)
    credits_left: float = json.loads(said)["credits"]
    return credits_left


def until_ready(hosts: Hosts) -> None:
    ask = f"import httpx; httpx.get('{URL}/ready').raise_for_status()"
    deadline = time.monotonic() + 240
    while True:
        with contextlib.suppress(AssertionError):
            hosts.run("a", sys.executable, "-c", ask)
            return
        assert time.monotonic() < deadline
        time.sleep(1)


def test_a_host_that_is_cut_off_costs_no_call_and_nobody_pays_twice(
    hosts: Hosts, tmp_path: Path
) -> None:
    until_ready(hosts)
    program = PROGRAMS / "face-detailer"
    key = hosts.run("a", program, "keys", "create", "--credits", "100").split()[-1]
    words = ["--url", URL, "--key", key, "--clients", 4, "--seconds", 140, "--prompt", "linger=1"]
    words += ["--json", tmp_path / "calls.json"]
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(hosts.run, "a", program, "load", PICTURE, *words)
        time.sleep(15)
        hosts.wire("down")
        # Longer than Ray waits for a node.
        time.sleep(80)
        hosts.wire("up")
        loading.result()
    calls = json.loads((tmp_path / "calls.json").read_text())
    assert {status for _, _, status in calls} == {200}
    longest_s = max(ended - begun for begun, ended, _ in calls)
    assert 10 < longest_s < 110, "the calls that the lost host had were done by the other"
    assert balance(hosts, key) == pytest.approx(100 - 0.01 * len(calls))
