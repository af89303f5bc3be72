"""`face-detailer bench`, with the embedded profile."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["face-detailer", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        code = ending.value.code
        return code if isinstance(code, int) else 0, *capfd.readouterr()

    return run


@pytest.mark.slow
def test_a_table_and_the_same_figures_as_json(bench: Run, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    size = ["--faces", "2", "--face-px", "60", "--size-px", "256", "--steps", "40"]
    code, shown, errors = bench("--profile", "tiny", "--device", "cpu", *size, "--json", file)
    assert code == 0, errors
    figures = json.loads(file.read_text())
    assert (tmp_path / "bench-chart.png").read_bytes().startswith(b"\x89PNG")
    assert figures["profile"] == "tiny"
    assert figures["workload"] == {
        "faces": 2,
        "face_px": 60,
        "size_px": 256,
        "steps": 40,
        "upscale": 2,
    }
    assert figures["speed_up"] == pytest.approx(figures["stock_seconds"] / figures["seconds"])
    assert figures["peak_bytes"] > 2**27
    stages = {stage["name"]: stage for stage in figures["stages"]}
    inpaint = stages["inpaint"]
    shown_row = re.search(r"inpaint +(\S+) +(\S+) +(\S+)", shown)
    assert shown_row is not None
    assert shown_row[2] == f"{inpaint['seconds']:.3f}"
    assert shown_row[3] == f"{inpaint['flops'] / 1e12 / inpaint['seconds']:.3g}"
    # Two passes, of which the profile runs two steps each.
    assert re.search(r"UNet +4 ", shown)
    assert re.search(r"Whole job: \S+ s, \S+ faces a minute", shown)
    assert re.search(r"diffusers' pipeline, one face at a time: \S+ s, \S+ times as long", shown)


@pytest.mark.parametrize(
    ("arguments", "expected", "sentence"),
    [
        (
            ["--profile", "tiny", "--weights", "random"],
            2,
            "--weights random is for the profile sdxl",
        ),
        (["--profile", "sdxl", "--device", "meta"], 2, "--device meta takes random"),
        (["--profile", "sdxl", "--device", "cpu"], 1, "Run `face-detailer weights pull"),
        (["--profile", "tiny", "--weights", "none"], 2, "--weights should be profile or random"),
        (["--profile", "tiny", "--upscale", "3"], 2, "--upscale should be 1, 2 or 4"),
        (["--size-px", "600"], 2, "4 faces of 384 px need a picture of 1344 px"),
        (["--faces", "1,none"], 2, "--faces should be from 1 to 64, several split by commas."),
        (["--faces", "65"], 2, "--faces should be from 1 to 64, several split by commas."),
        (["--profile", "no.toml", "--device", "cpu"], 1, "no.toml is missing"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    bench: Run,
    arguments: list[str],
    expected: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FACE_DETAILER_DATA_DIR", str(tmp_path))
    code, _, errors = bench(*arguments)
    assert code == expected
    assert sentence in errors.splitlines()[-1]


@pytest.mark.slow
def test_several_numbers_of_faces_are_measured_and_what_goes_on_is_said(
    bench: Run, tmp_path: Path
) -> None:
    file = tmp_path / "bench.json"
    counting = ["--weights", "random", "--device", "meta", "--faces", "2,1", "--steps", "1"]
    code, shown, errors = bench(*counting, "--json", file)
    assert code == 0, errors
    assert errors.startswith("Counting the operations of every network: nothing is run")
    assert [report["workload"]["faces"] for report in json.loads(file.read_text())] == [1, 2]
    assert shown.index("1 faces of") < shown.index("2 faces of")
    assert (tmp_path / "bench-chart.png").read_bytes().startswith(b"\x89PNG")
