"""What somebody reads whose profile file is wrong: file, key, what is allowed, what it has."""

from pathlib import Path

import pytest

from pipeline.config import Profile
from pipeline.config_faults import allowed_values
from pipeline.config_reading import read_profile
from pipeline.errors import InvalidProfile
from weights.manifest import PACKAGE_DIR

TINY = PACKAGE_DIR / "tiny" / "profile.toml"
# Per key, values that are not allowed, as TOML.
WRONG = {
    "name": ['""', "3", "[]"],
    "note": ['"ä"', "3", '"a\\nb"'],
    "detector": ['"yolo"'],
    "detector.yaml": ['""', "true", '"../other.yaml"', '"a/../../b.yaml"'],
    "detector.weights": ["7", '"../x.safetensors"'],
    "detector.input_px": ["32", "8192", "640.0", '"640"', "true"],
    "detector.threshold": ["-0.1", "1.1", "nan", '"0.3"', "false"],
    "segmenter": ["1"],
    "segmenter.config": ['""', "[1]"],
    "segmenter.weights": ['".."'],
    "segmenter.min_quality": ["2", "-1", "inf"],
    "outline": ["[]"],
    "detail": ["1979-05-27"],
    "inpainter": ["true"],
    "inpainter.folder": ['"../sdxl"', "0"],
    "inpainter.scheduler": ['"Euler"', "1"],
    "inpainter.step_rule": ['"some"'],
    "inpainter.batch_sizes": ["[]", "[4, 2]", "[1, 1]", "[0, 2]", "[1, 2.0]", "8", "[1, 2048]"],
    "inpainter.guidance": ["-1", "11", "nan", '"1"'],
    "inpainter.residual": ["1", '"true"'],
    "inpainter.mirrored": ["0", '"no"'],
    "inpainter.checkpoint": ['""', "false", '"../mine.safetensors"'],
    "inpainter.unet": ['"../unet"', "1"],
    "inpainter.vae": ['"../vae"', "1"],
    "inpainter.loras": ['"lora.safetensors"', "1"],
    "inpainter.embeddings": ['"mine.safetensors"', "1"],
    "inpainter.control": ['"control"', "1", "[]"],
    "inpainter.control.folder": ['""', "1", '"../control"'],
    "inpainter.control.scale": ["-0.1", "2.5", "nan", '"1"'],
    "inpainter.ip_adapter": ['"adapter"', "1", "[]"],
    "inpainter.ip_adapter.file": ['""', "1", '"../adapter.safetensors"'],
    "inpainter.ip_adapter.encoder": ['""', "1", '"../encoder"'],
    "inpainter.ip_adapter.scale": ["-0.1", "1.5", "nan", '"1"'],
    "inpainter.precision": ['"fp16"', "16"],
    "inpainter.steps": ["0", "1.5", "-0.5", "20"],
    "inpainter.spacing": ['"leading"'],
    "inpainter.told_px": ["-1", "4097", "1024.0", '"1024"'],
    "identity": ['"on"', "0.5"],
    "identity.recogniser": ['"arcface"', "1", '"sface"'],
    "identity.threshold": ["-0.1", "1.1", '"0.5"', "true"],
    "identity.weights": ['""', "1", '"../sface.onnx"'],
    "identity.landmarks": ["[]", '"../yunet.onnx"'],
    "upscaler": ['"x2"'],
    "upscaler.weights": ["{}", '{ 4 = "x4" }', '{ 2 = "a", 3 = "b" }', "{ 2 = 2 }", '{ x = "a" }'],
    "upscaler.tile_px": ["-8", "100", "8192", "512.0", '"512"'],
}
for name in ("outline", "detail"):
    WRONG |= {
        f"{name}.crop_factor": ["0.9", "11", '"2"', "nan", "1.05"],
        f"{name}.work_px": ["[]", "[256, 192]", "[100]", "[0]", "[4096]", "256", "[256.0]"],
        f"{name}.low_work_px": ["[]", "[256, 192]", "[100]", "768", "[256.0]"],
        f"{name}.grow": ["-0.1", "1.5", "nan"],
        f"{name}.feather": ["-0.1", "0.6", '"0.1"'],
        f"{name}.strength": ["-0.1", "1.5", "true"],
        f"{name}.tone": ["-1", "2", "inf"],
    }
# Values that are not shown as they were written.
SHOWN = {
    "nan": "NaN",
    "inf": "Infinity",
    "1979-05-27": '"1979-05-27"',
    '{ 4 = "x4" }': '{"4": "x4"}',
    '{ 2 = "a", 3 = "b" }': '{"2": "a", "3": "b"}',
    "{ 2 = 2 }": '{"2": 2}',
    '{ x = "a" }': '{"x": "a"}',
}
# Of the tables in a list.
LISTED = {
    "inpainter.loras[].file": ["{ file = 3 }", '{ file = "../x" }'],
    "inpainter.loras[].scale": ['{ file = "x", scale = "1" }', '{ file = "x", scale = inf }'],
    "inpainter.embeddings[].file": ["{ file = 3 }", '{ file = "../x" }'],
    "inpainter.embeddings[].token": [
        f'{{ file = "x", token = {token} }}' for token in ('"my word"', '"(a)"', '"a:1"', "1")
    ],
}


# What a table that tiny does not have must hold beside the key.
BESIDE = {
    "inpainter.control.scale": 'folder = "control"\n',
    "inpainter.ip_adapter.file": 'encoder = "encoder"\n',
    "inpainter.ip_adapter.encoder": 'file = "adapter.safetensors"\n',
    "inpainter.ip_adapter.scale": 'file = "adapter.safetensors"\nencoder = "encoder"\n',
}


def written(file: Path, key: str, value: str) -> Path:
    """A profile file that differs from tiny's in one key."""
    table, _, last = key.rpartition(".")
    head = f'base = "{TINY}"\n' + ("" if table else f"{last} = {value}\n")
    file.write_text(
        head + (f"[{table}]\n{last} = {value}\n" if table else "") + BESIDE.get(key, "")
    )
    return file


def faults(file: Path) -> list[str]:
    with pytest.raises(InvalidProfile) as raised:
        read_profile(file)
    return str(raised.value).splitlines()


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_one_sentence(tmp_path: Path, key: str, value: str) -> None:
    file = written(tmp_path / "mine.toml", key, value)
    (sentence,) = faults(file)
    begin, _, got = sentence.rpartition(", got ")
    assert begin == f"{file}: {key} should be {allowed_values(Profile)[key]}"
    assert got == SHOWN.get(value, value)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in LISTED.items() for value in values]
)
def test_a_wrong_table_of_a_list_is_named_by_its_place(
    tmp_path: Path, key: str, value: str
) -> None:
    of_list, _, last = key.partition("[].")
    file = written(tmp_path / "mine.toml", of_list, f'[{{ file = "good" }}, {value}]')
    (sentence,) = faults(file)
    allowed = allowed_values(Profile)[key]
    assert sentence.startswith(f"{file}: {of_list}[1].{last} should be {allowed}, got ")


def test_every_key_has_wrong_values_above() -> None:
    assert {*WRONG, *LISTED} == set(allowed_values(Profile))


def test_values_that_do_not_fit_each_other(tmp_path: Path) -> None:
    file = written(tmp_path / "mine.toml", "detail.grow", "0.3")
    assert faults(file) == [
        f"{file}: detail.crop_factor should be a number from 1 to 10, and at least 1 + 2 · grow, "
        "got 1.4"
    ]
    file = written(tmp_path / "mine.toml", "inpainter.step_rule", '"diffusers"')
    assert faults(file) == [
        f'{file}: inpainter.spacing should be "linspace", or "trailing", which needs the step_rule '
        '"all", got "trailing"'
    ]


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        (
            "detial",
            "base, detail, detector, identity, inpainter, name, note, outline, segmenter, upscaler",
        ),
        (
            "folder",
            "base, detail, detector, identity, inpainter, name, note, outline, segmenter, upscaler",
        ),
        ("detail.crop", "crop_factor, feather, grow, low_work_px, strength, tone, work_px"),
        ("upscaler.tile", "tile_px, weights"),
    ],
)
def test_an_unknown_key_is_named_with_those_that_are_known(
    tmp_path: Path, key: str, beside: str
) -> None:
    file = written(tmp_path / "mine.toml", key, "1")
    assert faults(file) == [f"{file}: {key} is no key of a profile; allowed there: {beside}"]


def test_an_unknown_key_of_a_lora(tmp_path: Path) -> None:
    file = written(tmp_path / "mine.toml", "inpainter.loras", '[{ file = "x", weight = 1 }]')
    assert faults(file) == [
        f"{file}: inpainter.loras[0].weight is no key of a profile; allowed there: file, scale"
    ]


def test_every_missing_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = TINY.read_text().replace("threshold = 0.55\n", "").replace('name = "tiny"\n', "")
    file.write_text(text.partition("[upscaler]")[0])
    assert faults(file) == [
        f"{file}: name is missing, and should be a text that is not empty",
        f"{file}: detector.threshold is missing, and should be a number from 0 to 1",
        f"{file}: upscaler is missing, and should be a table",
    ]


def test_every_fault_has_its_sentence_with_the_file_that_it_is_in(tmp_path: Path) -> None:
    middle, file = tmp_path / "middle.toml", tmp_path / "mine.toml"
    middle.write_text(f'base = "{TINY}"\n[detail]\ngrow = 5\n[inpainter]\nsteps = 3\n')
    file.write_text('base = "middle.toml"\n[inpainter]\nsteps = 2\nvae = ""\n')
    found = [sentence.partition(" should be ")[0] for sentence in faults(file)]
    assert found == [
        f"{middle}: detail.grow",
        f"{file}: inpainter.vae",
        f"{file}: inpainter.steps",
    ]


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ('"mine.toml"', '"mine.toml"'),
        ('"other.toml"', '"other.toml"'),
        ('"gone.toml"', '"gone.toml"'),
        ('""', '""'),
        ("3", "3"),
        ('"\\u0000"', '"\\u0000"'),
    ],
)
def test_a_wrong_base(tmp_path: Path, base: str, shown: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"base = {base}")
    (tmp_path / "other.toml").write_text('base = "mine.toml"')
    (sentence,) = faults(file)
    at = tmp_path / "other.toml" if base == '"other.toml"' else file
    value = '"mine.toml"' if base == '"other.toml"' else shown
    assert sentence == (f"{at}: base should be another profile file, without a circle, got {value}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing"),
        (b"name = ", "is no TOML: "),
        (b"name = 1\nname = 2\n", "is no TOML: "),
        (b"name = \xff", "is no TOML: "),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_bytes(content)
    (sentence,) = faults(file)
    assert sentence.startswith(f"the profile file {file} {said}")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    (sentence,) = faults(tmp_path / "mine.toml")
    assert sentence == f"the profile file {tmp_path / 'mine.toml'} cannot be read: Is a directory"


@pytest.mark.parametrize(
    "file", ["tiny", "sdxl", *(f"sdxl/{name}.toml" for name in ("fast", "hyper-sd", "inpainting"))]
)
def test_the_profiles_that_come_along_are_right(file: str) -> None:
    assert read_profile(PACKAGE_DIR / file).folder == PACKAGE_DIR / Path(file).parts[0]
