"""Checkpoints become safetensors that the pipeline loads; nothing that they hold is run."""

import json
import os
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.config import DetectorConfig, SegmenterConfig, UpscalerConfig
from pipeline.models.esrgan import load_upscaler
from pipeline.models.sam import build_sam, load_segmenter
from pipeline.models.yolo import YAML, DetectionModel, load_detector
from weights.convert import convert
from weights.errors import BadPickle
from weights.manifest import profile_folder

# After the adapter, which keeps ultralytics from the network.
from ultralytics import YOLO  # isort: skip
import ultralytics.nn.modules as ultralytics_modules  # isort: skip

TINY = profile_folder("tiny")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def same(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == expected.keys() and all(
        torch.equal(tensor, expected[name]) and tensor.dtype == expected[name].dtype
        for name, tensor in tensors.items()
    )


# --- ultralytics ---


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The face detector's network, an eighth as wide as its smallest scale."""
    text = (TINY / "detector" / "yolov8-face.yaml").read_text()
    assert "[0.33, 0.25, 1024]" in text
    file = tmp_path_factory.mktemp("yolo") / "yolov8-narrow.yaml"
    file.write_text(text.replace("[0.33, 0.25, 1024]", "[0.33, 0.03125, 1024]"))
    return file


def test_a_model_that_ultralytics_saved_detects_the_same_faces(
    narrow: Path, checkpoint: Path, target: Path
) -> None:
    torch.manual_seed(0)
    yolo = YOLO(narrow, task="detect", verbose=False)
    yolo.save(checkpoint)
    convert(checkpoint, target)
    # ultralytics stores half precision.
    expected = yolo.model.half().state_dict()
    assert same(load_file(target), expected)

    (target.parent / "x.yaml").write_text(narrow.read_text())
    load_detector(target.parent, DetectorConfig("x.yaml", target.name, 64, 0.5), "cpu")
    # As ultralytics' own reader, which runs the pickle, has it.
    pixels = torch.rand(1, 3, 64, 64)
    network = DetectionModel(YAML.load(narrow), verbose=False)
    network.load_state_dict(load_file(target))
    with torch.inference_mode():
        got, wanted = (m.float().eval()(pixels)[0] for m in (network, YOLO(checkpoint).model))
    assert torch.equal(got, wanted)


def test_a_training_checkpoint_gives_its_average(
    narrow: Path, checkpoint: Path, target: Path
) -> None:
    model, average = (DetectionModel(YAML.load(narrow), verbose=False) for _ in range(2))
    average.args = types.SimpleNamespace(imgsz=640, data=Path("faces.yaml"))
    # As segmentation models of 2023 are: with a bound method among their attributes.
    average.forward_as = average.model[0].forward
    fitness = np.float64(0.5)
    torch.save({"model": model, "ema": average, "best_fitness": fitness, "epoch": 3}, checkpoint)
    convert(checkpoint, target)
    assert same(load_file(target), average.state_dict())


def test_names_of_2023_are_read_too(checkpoint: Path, target: Path) -> None:
    """ultralytics 8.0 had all its modules in one file, which today's has not."""
    layer = torch.nn.Linear(2, 3)
    old = type("Conv", (torch.nn.Module,), {"__module__": "ultralytics.nn.modules"})
    settings = type("IterableSimpleNamespace", (), {"__module__": "ultralytics.yolo.utils"})
    modules = {
        name: types.ModuleType(name) for name in ("ultralytics.yolo", "ultralytics.yolo.utils")
    }
    modules["ultralytics.yolo.utils"].IterableSimpleNamespace = settings  # type: ignore[attr-defined]
    network = old()
    network.conv = layer
    network.args = settings()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(ultralytics_modules, "Conv", old)
        torch.save({"model": network, "ema": None}, checkpoint)
    convert(checkpoint, target)
    assert same(load_file(target), {"conv.weight": layer.weight.data, "conv.bias": layer.bias.data})


def test_buffers_that_are_not_kept_are_left_out(checkpoint: Path, target: Path) -> None:
    network = torch.nn.BatchNorm2d(2)
    network.register_buffer("scratch", torch.ones(1), persistent=False)
    network.register_parameter("absent", None)
    torch.save({"model": network}, checkpoint)
    convert(checkpoint, target)
    assert same(load_file(target), network.state_dict())


# --- segment-anything, Real-ESRGAN ---


def test_a_segment_anything_checkpoint_loads(checkpoint: Path, target: Path) -> None:
    config = TINY / "segmenter" / "config.json"
    model = build_sam(json.loads(config.read_text()))
    torch.save(model.state_dict(), checkpoint)
    convert(checkpoint, target)
    assert same(load_file(target), model.state_dict())
    (target.parent / "config.json").write_text(config.read_text())
    load_segmenter(target.parent, SegmenterConfig("config.json", target.name, 0.5), "cpu")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
@pytest.mark.parametrize("keys", [("params",), ("params", "params_ema")])
def test_a_real_esrgan_checkpoint_loads(
    checkpoint: Path, target: Path, keys: tuple[str, ...], zipped: bool
) -> None:
    tensors = load_file(TINY / "upscaler" / "x2.safetensors")
    worse = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    value = {key: tensors if key == keys[-1] else worse for key in keys}
    torch.save(value, checkpoint, _use_new_zipfile_serialization=zipped)
    convert(checkpoint, target)
    assert same(load_file(target), tensors)
    load_upscaler(target.parent, UpscalerConfig({2: target.name}, 0), "cpu")


def test_shared_and_strided_tensors_are_stored(checkpoint: Path, target: Path) -> None:
    table = torch.arange(6.0).reshape(2, 3)
    torch.save(OrderedDict(a=table, b=table, c=table.T), checkpoint)
    convert(checkpoint, target)
    assert same(load_file(target), {"a": table, "b": table, "c": table.T})


# --- what is refused ---


class Malice:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self._reduced


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "eval"), (os.path.join, "posixpath.join")],
)
def test_other_functions_are_refused_by_name(
    checkpoint: Path, target: Path, function: Callable[..., object], name: str, zipped: bool
) -> None:
    ran = checkpoint.with_name("ran")
    script = f"touch {ran}" if function is os.system else f"open({str(ran)!r}, 'w')"
    value = {"params": {"a": torch.ones(1)}, "x": Malice(function, script)}
    torch.save(value, checkpoint, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadPickle, match=rf"\b{name}\b"):
        convert(checkpoint, target)
    assert not ran.exists()
    assert not target.exists()


def test_allowed_names_do_nothing(checkpoint: Path, target: Path) -> None:
    """`getattr` and `pathlib.Path` are let through, together they could write files."""
    ran = checkpoint.with_name("ran")
    malice = Malice(getattr, ran, "touch")
    torch.save({"params": {"a": torch.ones(1)}, "x": Malice(Path, ran), "y": malice}, checkpoint)
    convert(checkpoint, target)
    torch.save({"params": {"a": torch.ones(1)}, "x": Malice(Path.touch, ran)}, checkpoint)
    with pytest.raises(BadPickle, match="unrecognized function"):
        convert(checkpoint, target)
    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html></html>", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_one_sentence(
    checkpoint: Path, target: Path, content: bytes
) -> None:
    checkpoint.write_bytes(content)
    with pytest.raises(BadPickle, match=r"^expected .*, got") as error:
        convert(checkpoint, target)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_weights_is_refused(checkpoint: Path, target: Path) -> None:
    torch.save({"epoch": 3}, checkpoint)
    with pytest.raises(BadPickle, match="expected weights in the checkpoint, got none"):
        convert(checkpoint, target)


def test_the_allow_list_is_gone_afterwards(checkpoint: Path, target: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"model": torch.nn.Linear(1, 1)}, checkpoint)
    convert(checkpoint, target)
    assert set(torch.serialization.get_safe_globals()) == before
