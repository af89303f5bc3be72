"""Averages weight files, tensor by tensor.

    python -m training.mean OUT FILE FILE …

The mean of two trainings that started from the same weights is often better than either: Wortsman
et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def mean_of(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each tensor, computed in float32, in the dtype of the first state.

    Non-float tensors are taken from the first state.

    Raises:
        ValueError: the states do not have the same tensors.
    """
    first = states[0]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("expected files with the same tensors")
    return {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }


def main() -> None:
    """Read, average, write."""
    parser = argparse.ArgumentParser(
        prog="python -m training.mean", description="Average safetensors files."
    )
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("files", type=Path, nargs="+", metavar="file", help="a file to average")
    options = parser.parse_args()
    states = [load_file(file) for file in options.files]
    # Diffusers and transformers write this metadata, and require it.
    save_file(mean_of(states), options.out, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
