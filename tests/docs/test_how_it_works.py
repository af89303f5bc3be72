"""docs/how-it-works.md shows what its own command makes."""

import re
import shlex
import subprocess
from pathlib import Path

import PIL.Image
import pytest
from pages import ROOT, shell_lines
from server_program import PROGRAM

PAGE = ROOT / "docs" / "how-it-works.md"
SHOWN = re.findall(r"!\[.+\]\((images/steps/\S+)\)", PAGE.read_text())


def test_the_pictures_are_there_in_order_and_small() -> None:
    files = [PAGE.parent / name for name in SHOWN]
    assert files == sorted((PAGE.parent / "images" / "steps").iterdir())
    assert len(files) == 7
    assert sum(file.stat().st_size for file in files) < 600_000


@pytest.mark.slow
def test_the_command_makes_them(environment: dict[str, str], tmp_path: Path) -> None:
    (command,) = [words for words in shell_lines(PAGE) if words[0] == "face-detailer"]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    tiny = {"FACE_DETAILER_PROFILE": "tiny", "FACE_DETAILER_DEVICES": "cpu"}
    subprocess.run([PROGRAM, *command[1:]], cwd=tmp_path, env=environment | tiny, check=True)
    made = sorted((tmp_path / "out" / "steps").iterdir())
    assert [file.name for file in made] == [Path(name).name for name in SHOWN]
    for file in made:
        with PIL.Image.open(file) as picture:
            assert picture.format == "JPEG"


def test_make_makes_them_with_the_same_command() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (rule,) = re.findall(r"^\t\$\(BIN\)/face-detailer (detail .+)$", makefile, re.M)
    (command,) = [words for words in shell_lines(PAGE) if words[0] == "face-detailer"]
    made, shown = shlex.split(rule), command[1:]
    assert made[made.index("--steps") + 1] == "docs/images/steps"
    for words in (made, shown):
        assert words[1] == "examples/astronaut-damaged.jpg"
        assert words[words.index("--prompt") + 1] == "detailed face"
        assert words[words.index("--denoise") + 1] == "0.4"
