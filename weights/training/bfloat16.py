"""Frozen convolutions in bfloat16, where the processor multiplies it itself."""

from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

Network = TypeVar("Network", bound=torch.nn.Module)


class BFloat16:
    """On a CPU that has `avx512_bf16` a decoder's picture and gradient take half of the time that
    they take in float32; elsewhere this changes nothing.

    The group norms stay in float32: on a CPU, torch's step back through one in bfloat16 takes three
    times as long, and as long as all convolutions together.
    """

    def __init__(self, device: torch.device) -> None:
        capabilities = torch.cpu.get_capabilities()
        self.enabled = device.type == "cpu" and bool(capabilities.get("avx512_bf16"))

    def prepare(self, network: Network) -> Network:
        """`network`, changed in place so that it is fast within `context`."""
        for module in network.modules():
            if self.enabled and isinstance(module, torch.nn.GroupNorm):
                module.register_forward_pre_hook(_widen)
                module.register_forward_hook(_narrow)
        return network

    def context(self) -> AbstractContextManager[Any]:
        """Where prepared networks run; what they return may be bfloat16."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.enabled)


def _widen(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].float(),)


def _narrow(
    _module: torch.nn.Module, _inputs: tuple[torch.Tensor], output: torch.Tensor
) -> torch.Tensor:
    return output.bfloat16() if torch.is_autocast_enabled("cpu") else output
