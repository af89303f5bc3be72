"""A server on a Ray cluster of this machine's own, started as its operator starts it."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import server_program
import yaml
from pages import ROOT
from server_program import environment_with, wait_until_ready

SHIPPED = ROOT / "deploy/ray/serve.yaml"
PROGRAMS = Path(sys.executable).parent
READY_S = 240.0


@dataclass
class Cluster:
    """`file`: Ray Serve's configuration. `environment`: of its nodes, and of the command line."""

    url: str
    dashboard: str
    file: Path
    environment: dict[str, str]

    def new_key(self, amount: str | None = None) -> str:
        return server_program.new_key(self.environment, amount)

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"x-api-key": key}, timeout=120, trust_env=False
        )

    def deploy(self, **changes: str) -> None:
        """Deploy again, with these environment variables."""
        config = yaml.safe_load(self.file.read_text())
        config["applications"][0]["runtime_env"]["env_vars"] |= changes
        self.file.write_text(yaml.safe_dump(config))
        subprocess.run(
            [PROGRAMS / "serve", "deploy", "-a", self.dashboard, self.file],
            env=self.environment,
            check=True,
            capture_output=True,
        )

    def processes(self, deployment: str) -> list[int]:
        """Of the replicas of a deployment that live."""
        mark = self.environment["CLUSTER_MARK"].encode()
        title = f"ray::ServeReplica:face-detailer:{deployment}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_replica = (folder / "cmdline").read_bytes().startswith(title)
                if is_replica and mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return sorted(found)


def stub_configuration(host: str, port: int) -> dict[str, Any]:
    """The shipped configuration with replicas that need no GPU, and do what a prompt says."""
    config: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    config["proxy_location"] = "HeadOnly"
    config["http_options"] |= {"host": host, "port": port}
    application = config["applications"][0]
    application["args"] = {"load": "worker_loads:inverter"}
    application["runtime_env"]["env_vars"] |= {
        "FACE_DETAILER_PROFILE": "tiny",
        "FACE_DETAILER_WORKER_CONCURRENCY": "2",
        "FACE_DETAILER_METRICS": "true",
    }
    for deployment in application["deployments"]:
        deployment.pop("autoscaling_config", None)
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
    return config


def new_home() -> Path:
    """A folder for Ray, which keeps sockets there: their paths must be short."""
    home = Path(f"/tmp/ray-{uuid.uuid4().hex[:8]}")
    home.mkdir()
    return home


def environment_of_nodes(home: Path, folder: Path, database_url: str) -> dict[str, str]:
    """As docs/scale.md says, with a mark that every process of the nodes carries."""
    settings = environment_with(
        data_dir=str(folder / "data"), database_url=database_url, devices="cpu"
    )
    return settings | {
        "CLUSTER_MARK": uuid.uuid4().hex,
        "HOME": str(home),
        "RAY_TMPDIR": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "server.cluster.proxying:middlewares",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


@contextlib.contextmanager
def cluster(
    folder: Path,
    database_url: str,
    *,
    workers: int | dict[str, int],
    ingresses: int,
    change: Callable[[dict[str, Any]], None] = lambda _application: None,
) -> Iterator[Cluster]:
    """A ready server. `workers`: how many replicas, or how Ray finds their number. `change`: of the
    configuration of the application.
    """
    config = stub_configuration("127.0.0.1", port := free_port())
    ingress, worker = config["applications"][0]["deployments"]
    ingress["num_replicas"] = ingresses
    worker["num_replicas" if isinstance(workers, int) else "autoscaling_config"] = workers
    change(config["applications"][0])
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    home = new_home()
    environment = environment_of_nodes(home, folder, database_url)
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [PROGRAMS / "serve", "run", file],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, url, log, READY_S)
        shown = re.search(r"dashboard at \S*?(http://127.0.0.1:\d+)", log.read_text())
        assert shown
        yield Cluster(url, shown[1], file, environment)
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    """One that no process gets by chance before it is used: systems give out those above 32768."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
