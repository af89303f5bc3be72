"""The mean of weight files."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training import mean


def average(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["mean", *map(str, files)])
    mean.main()


def test_each_tensor_is_averaged_in_its_own_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, one, other = (tmp_path / f"{name}.safetensors" for name in ("out", "one", "other"))
    count = torch.tensor(7)
    save_file({"a": torch.tensor([1.0, 3.0]).half(), "n": count}, one)
    save_file({"a": torch.tensor([2.0, -3.0]).half(), "n": count + 2}, other)
    average(monkeypatch, out, one, other)
    got = load_file(out)
    assert got["a"].dtype == torch.float16
    assert got["a"].tolist() == [1.5, 0.0]
    assert got["n"] == count
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_files_of_other_networks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, one, other = (tmp_path / f"{name}.safetensors" for name in ("out", "one", "other"))
    save_file({"a": torch.zeros(2)}, one)
    save_file({"a": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match="the same tensors"):
        average(monkeypatch, out, one, other)
    assert not out.exists()
