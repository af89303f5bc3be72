"""What a cluster is started with, and the figures of scale.md."""

import importlib
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml
from pages import ROOT

SERVE = ROOT / "deploy/ray/serve.yaml"
MANIFEST = ROOT / "deploy/ray/rayservice.yaml"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def service() -> dict[str, Any]:
    return yaml.safe_load(MANIFEST.read_text())


def pods(service: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def test_kubernetes_gets_the_same_configuration(service: dict[str, Any]) -> None:
    assert service["spec"]["serveConfigV2"].strip() == SERVE.read_text().strip()


def test_ray_takes_the_configuration() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    config = schema.ServeDeploySchema.model_validate(yaml.safe_load(SERVE.read_text()))
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    build = getattr(importlib.import_module(module), name)
    assert callable(build)
    assert {deployment.name for deployment in application.deployments} == {"ingress", "worker"}


def test_the_pods_are_what_kubernetes_takes(service: dict[str, Any]) -> None:
    folder = ROOT / "build/kubernetes-validate"
    if not folder.exists():
        pytest.skip("kubernetes-validate was not fetched: .ci/run does it")
    for template in pods(service):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
        command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-"]
        done = subprocess.run(
            command,
            input=yaml.safe_dump(pod),
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(folder)},
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifest_fits_the_image_and_the_pinned_ray(service: dict[str, Any]) -> None:
    locked = (ROOT / "requirements-cluster.txt").read_text()
    version = service["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"\nray=={version} " in locked
    for template in pods(service):
        (container,) = template["spec"]["containers"]
        assert container["image"] == f"face-detailer:{VERSION}-cluster"
        named = {variable["name"] for variable in container["env"]}
        assert {"FACE_DETAILER_DATABASE_URL", "FACE_DETAILER_DATA_DIR"} < named
        proxying = next(v for v in container["env"] if v["name"].startswith("RAY_SERVE_HTTP"))
        module, _, name = proxying["value"].partition(":")
        assert getattr(importlib.import_module(module), name)()
