"""Settings: from the environment, and checked."""

import stat
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from server import ENV_PREFIX
from server.settings import SettingsError, read_settings


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("devices", "cuda:0, cuda:1", ("cuda:0", "cuda:1")),
        ("devices", "auto", "auto"),
        ("memory_mode", "offload", "offload"),
        ("profile", "~/mine.toml", str(Path.home() / "mine.toml")),
        ("upscale", "4", 4),
        ("identity", "On", "on"),
        ("identity", "0.5", 0.5),
        ("log_level", "WARNING", "warning"),
        ("cost_per_sample", "0.0123456789", Decimal("0.0123456789")),
        ("fetch_private_addresses", "true", True),
        ("detection_threshold", "0.25", 0.25),
        ("public_base_url", "https://faces.example/api/", "https://faces.example/api"),
        ("data_dir", "~/faces", Path.home() / "faces"),
        ("max_faces", "", 20),
        ("hub_endpoint", "https://hub.example/", "https://hub.example"),
        ("url_mirrors", "http://a/=http://b/", (("http://a/", "http://b/"),)),
        (
            "url_mirrors",
            "https://a/x=http://b, http://c=http://d",
            (("https://a/x", "http://b"), ("http://c", "http://d")),
        ),
    ],
)
def test_environment(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", text)
    assert getattr(read_settings(), name) == value


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("port", "65536", "should be less than or equal to 65535"),
        ("port", "http", "should be a valid integer"),
        (
            "profile",
            "huge",
            "should be auto, tiny, sdxl, sdxl-fast, sdxl-inpainting or a profile file",
        ),
        ("devices", "cpu,gpu", "should be auto, or cpu, mps, cuda or cuda:N"),
        ("devices", ",", "should be auto, or cpu, mps, cuda or cuda:N"),
        ("devices", "cpu,meta", "should be auto, or cpu, mps, cuda or cuda:N"),
        ("upscale", "3", "should be 1, 2 or 4"),
        ("worker_concurrency", "0", "should be greater than or equal to 1"),
        ("request_timeout_s", "0", "should be greater than 0"),
        ("request_timeout_s", "nan", "should be"),
        ("cost_per_sample", "-1", "should be greater than or equal to 0"),
        ("cost_per_sample", "0.00000000001", "no more than 10 decimal places"),
        ("cost_per_sample", "NaN", "should be a finite number"),
        ("detection_threshold", "1.1", "should be less than or equal to 1"),
        ("max_request_steps", "14", "should be greater than or equal to 15"),
        ("fetch_private_addresses", "perhaps", "should be a valid boolean"),
        ("public_base_url", "faces.example", "should be an http:// or https:// address"),
        ("hub_endpoint", "hub.example", "should be an http:// or https:// address"),
        ("url_mirrors", "https://a/", "should be OLD=NEW"),
        ("url_mirrors", "https://a/=b", "should be OLD=NEW"),
        ("identity", "0", "should be off, on, or a number between 0 and 1"),
        ("identity", "1", "should be off, on, or a number between 0 and 1"),
        ("identity", "nan", "should be off, on, or a number between 0 and 1"),
        ("identity", "yes", "should be off, on, or a number between 0 and 1"),
        ("database_url", "mysql://u@h/d", "should start with sqlite:// or postgresql://"),
    ],
)
def test_wrong_value_is_one_sentence_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, rule: str
) -> None:
    variable = f"{ENV_PREFIX}{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError) as error:
        read_settings()
    sentence = str(error.value)
    assert sentence.startswith(f"{variable}: ")
    assert rule in sentence
    assert "\n" not in sentence


def test_every_wrong_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_DETAILER_PORT", "x")
    monkeypatch.setenv("FACE_DETAILER_UPSCALE", "x")
    with pytest.raises(SettingsError) as error:
        read_settings()
    assert len(str(error.value).splitlines()) == 2


def test_overrides_win_and_none_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_DETAILER_PORT", "1")
    assert read_settings(port=2).port == 2
    assert read_settings(port=None).port == 1


def test_a_password_in_the_database_address_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "geheim" not in repr(read_settings(database_url="postgresql://u:geheim@h/d"))
    monkeypatch.setenv("FACE_DETAILER_DATABASE_URL", "mysql://u:geheim@h/d")
    with pytest.raises(SettingsError) as error:
        read_settings()
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("name", ["hub_endpoint", "url_mirrors"])
def test_a_password_in_a_mirror_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prefix = "https://a/=" if name == "url_mirrors" else ""
    monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", f"{prefix}https://u:geheim@h/")
    assert "geheim" not in repr(read_settings())
    monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", "u:geheim@h")
    with pytest.raises(SettingsError) as error:
        read_settings()
    assert "geheim" not in str(error.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read_settings().port = 1  # type: ignore[misc]


def test_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = read_settings(data_dir=tmp_path / "a" / "b").make_data_dir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
