"""The Dockerfile, the compose file and what they take, as far as can be told without an engine."""

import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import ROOT, blocks

from server import ENV_PREFIX
from server.accounts.database import open_database
from server.settings import Settings

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
# Those that are built here; the others come as they are.
OWN = [service for service in COMPOSE["services"].values() if "build" in service]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", (ROOT / name).read_text(), re.M))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_the_versions_that_were_tested_and_no_tools() -> None:
    everything, runtime = pins("requirements.txt"), pins("requirements-runtime.txt")
    assert runtime.items() <= everything.items()
    assert {"torch", "fastapi", "psycopg-binary", "opencv-python-headless"} <= runtime.keys()
    assert runtime.keys() & {"pytest", "mypy", "ruff", "opencv-python", "segmind", "uv"} == set()
    build = pins("requirements-build.txt")
    assert {"uv", "hatchling"} <= build.keys()


def test_every_requirement_has_a_hash_and_names_no_registry() -> None:
    for file in ROOT.glob("requirements*.txt"):
        text = file.read_text()
        entries = re.findall(r"^[\w.-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text, re.M)
        assert len(entries) == len(re.findall(r"^[\w.-]+==", text, re.M)) > 0
        assert "://" not in text


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M)
        for word in line.split()[:-1]
    ]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert sorted(copied) == sorted(line[1:] for line in ignore if line.startswith("!"))
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_serves_as_nobody_special() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.M)
    assert 'ENTRYPOINT ["tini", "--", "face-detailer"]' in final
    assert "HEALTHCHECK" in final
    assert "/ready" in final


def test_the_health_check_asks_for_ready(server_url: str, environment: dict[str, str]) -> None:
    script = re.search(r'CMD \["python", "-c", "(.+)"\]$', DOCKERFILE, re.M)
    assert script
    port = server_url.rpartition(":")[2]
    codes = [
        subprocess.run(
            [sys.executable, "-c", script[1]],
            env=environment | {"FACE_DETAILER_PORT": port, "http_proxy": "http://127.0.0.1:9"},
            stderr=subprocess.DEVNULL,
        ).returncode
        for port in (port, "9")
    ]
    assert codes == [0, 1]


def test_compose_hands_on_every_setting() -> None:
    # The image and the command set these.
    own = {"HOST", "PORT", "DATA_DIR", "PROFILE"}
    wanted = {
        ENV_PREFIX + name.upper() for name in Settings.model_fields if name.upper() not in own
    }
    assert set(COMPOSE["services"]["server"]["environment"]) == wanted


def test_compose_hands_on_what_a_download_takes_to_it_alone() -> None:
    handed = set(COMPOSE["services"]["weights"]["environment"])
    own = {"HUB_ENDPOINT", "URL_MIRRORS", "LOG_LEVEL"}
    assert {name for name in handed if name.startswith(ENV_PREFIX)} == {
        ENV_PREFIX + name for name in own
    }
    assert {"HF_ENDPOINT", "HF_TOKEN", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"} < handed
    assert "HF_TOKEN" not in COMPOSE["services"]["server"]["environment"]


def test_compose_locks_all_containers_down() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    version = PROJECT["project"]["version"]
    assert {service["image"] for service in OWN} == {f"face-detailer:{version}"}


def test_the_server_waits_for_the_weights_and_gets_the_gpus() -> None:
    server, weights = COMPOSE["services"]["server"], COMPOSE["services"]["weights"]
    assert server["depends_on"] == {"weights": {"condition": "service_completed_successfully"}}
    assert (weights["restart"], server["restart"]) == ("no", "unless-stopped")
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "weights:/data/weights" in weights["volumes"]
    assert {"data:/data", "weights:/data/weights:ro"} == set(server["volumes"])


def interpolated(text: str, **variables: str) -> str:
    """As Compose does it, with `${NAME:-default}` alone."""
    return re.sub(r"\$\{(\w+):-(.*?)\}", lambda found: variables.get(found[1]) or found[2], text)


def seconds_of(duration: str) -> float:
    """Of a duration as Compose reads it: numbers with units, added up."""
    parts = re.findall(r"([\d.]+)(ms|s)", duration)
    assert "".join(number + unit for number, unit in parts) == duration
    return sum(float(number) * {"ms": 0.001, "s": 1}[unit] for number, unit in parts)


@pytest.mark.parametrize("grace_s", [None, "0", "7.5", "600"])
def test_it_stops_later_than_the_server_needs(grace_s: str | None) -> None:
    given = {} if grace_s is None else {"FACE_DETAILER_SHUTDOWN_GRACE_S": grace_s}
    text = interpolated(COMPOSE["services"]["server"]["stop_grace_period"], **given)
    needs = Settings().shutdown_grace_s if grace_s is None else float(grace_s)
    assert seconds_of(text) == needs + 15


def test_own_models_get_to_where_their_profile_says(tmp_path: Path) -> None:
    page = ROOT / "docs/deploy.md"
    (profile,) = [tomllib.loads(block) for block in blocks(page, "toml")]
    (override,) = [yaml.safe_load(block) for block in blocks(page, "yaml")]
    (script,) = re.findall(r'weights -c "(.+)"$', "".join(blocks(page, "sh")), re.M)
    file = override["services"]["server"]["command"][-1]
    names = [profile["inpainter"]["checkpoint"], profile["inpainter"]["loras"][0]["file"], file]
    (tmp_path / "import").mkdir()
    for name in names:
        (tmp_path / "import" / Path(name).name).touch()
    (tmp_path / "data" / "weights").mkdir(parents=True)
    here = script.replace("/import", f"{tmp_path}/import").replace("/data", f"{tmp_path}/data")
    for _ in range(2):
        subprocess.run(["sh", "-c", here], check=True)
    assert all(Path(f"{tmp_path}{name}").is_file() for name in names)
    assert profile["base"] == "/data/weights/sdxl/profile.toml"


def test_the_back_up_of_the_accounts(tmp_path: Path) -> None:
    open_database(Settings(data_dir=tmp_path)).dispose()
    (script,) = re.findall(
        r'python -c \\\n    "(.+)"$', "".join(blocks(ROOT / "docs/deploy.md", "sh")), re.M
    )
    subprocess.run([sys.executable, "-c", script.replace("/data/", f"{tmp_path}/")], check=True)
    copy = sqlite3.connect(tmp_path / "backup.sqlite3")
    tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master")}
    copy.close()
    assert {"accounts", "api_keys", "holds", "ledger"} <= tables
