"""docs/monitoring.md, the alert rules and the dashboard name what a running server shows."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pages import ROOT, code, tables

from server.metrics import STAGES, Metrics
from server.types import WorkerState

PAGE = ROOT / "docs" / "monitoring.md"
FOLDER = ROOT / "observability"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana" / "face-detailer.json").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
_METRIC = re.compile(r"\b((?:face_detailer|process)_\w+)")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Debian's package prometheus is not installed"
)


def rows(*heading: str) -> list[list[str]]:
    (table,) = [t for t in tables(PAGE) if t[0][: len(heading)] == list(heading)]
    return table[1:]


def test_every_metric_is_listed_with_its_type_and_labels() -> None:
    listed = {code(row[0]): (row[1], re.findall(r"`(\w+)`", row[2])) for row in rows("metric")}
    wanted = {}
    for kind in vars(Metrics()).values():
        if kind.__class__.__name__ in ("Counter", "Gauge", "Histogram", "Info"):
            family = kind.describe()[0]
            name, labels = family.name, list(kind._labelnames)
            if family.type == "counter":
                name += "_total"
            if family.type == "info":
                name, family.type, labels = f"{name}_info", "gauge", ["version"]
            wanted[name] = (family.type, labels)
    assert listed == wanted


def test_every_stage_and_state_is_named() -> None:
    text = PAGE.read_text()
    assert [stage for stage in STAGES if f"`{stage}`" not in text] == []
    assert [code(row[0]) for row in rows("state")] == [str(state) for state in WorkerState]


def test_every_alert_is_explained() -> None:
    assert [code(row[0]) for row in rows("alert")] == [rule["alert"] for rule in RULES]


@pytest.fixture(scope="module")
def shown(server_url: str) -> set[str]:
    """The names of all that a real server shows."""
    text = httpx.get(f"{server_url}/metrics", trust_env=False).text
    names = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M):
        names.add(name)
        if kind == "histogram":
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def expressions() -> list[str]:
    """Every expression of the rules and the dashboard."""
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [variable["query"] for variable in DASHBOARD["templating"]["list"]]
    return [*(rule["expr"] for rule in RULES), *targets, *variables]


def test_a_running_server_shows_what_rules_and_dashboard_read(shown: set[str]) -> None:
    read = {name for text in expressions() for name in _METRIC.findall(text)}
    assert len(read) > 20
    assert read - shown == set()


def test_the_dashboard_reads_every_metric_of_the_server(shown: set[str]) -> None:
    read = {name for text in expressions() for name in _METRIC.findall(text)}
    own = {code(row[0]) for row in rows("metric")}
    assert {name for name in own if not any(other.startswith(name) for other in read)} == set()
    assert {name for name in own if name in shown} == own


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_expressions_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    interval = {"$__rate_interval": "5m", "$instance": ".+"}
    rules = []
    for number, text in enumerate(
        target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
    ):
        for name, value in interval.items():
            text = text.replace(name, value)
        rules.append({"record": f"panel:{number}", "expr": text})
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_mounts_what_there_is_for_whoever_asks_for_it() -> None:
    services = {
        name: service
        for name, service in COMPOSE["services"].items()
        if service.get("profiles") == ["observability"]
    }
    assert services.keys() == {"prometheus", "grafana"}
    mounted = set()
    for service in services.values():
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service["volumes"]:
            source, _, target = volume.partition(":")
            if source.startswith("./"):
                assert target.endswith(":ro")
                mounted.add((ROOT / source).resolve())
            else:
                assert source in COMPOSE["volumes"]
    files = {path for path in FOLDER.rglob("*") if path.is_file()}
    assert files - mounted == {FOLDER / "alerts.test.yml"}


def test_prometheus_reads_the_server_of_the_compose_file() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["server:8000"]}]
    assert "server" in COMPOSE["services"]
