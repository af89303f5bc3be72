"""What a benchmark found out."""

from dataclasses import dataclass

from evaluation.bench.workload import Workload


@dataclass(frozen=True, slots=True)
class StageCost:
    """`seconds`: None where nothing was run."""

    name: str
    seconds: float | None
    flops: int


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """`calls`: how many; `flops`: of all; `weights_bytes`; `peak_bytes`: of the largest call,
    without the weights.
    """

    name: str
    calls: int
    flops: int
    weights_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class BenchReport:
    """`peak_bytes`: of the device; on a CPU of the whole process; on meta as counted.
    `stock_seconds`: the same workload, with diffusers' pipeline; None where it was not run.
    `eager_seconds`: the same before anything was compiled; None where nothing is.
    `loop_seconds`: a step of the denoise loop without its UNet, for `LOOP_ROWS` rows at the detail
    pass's size; None where nothing was run.
    """

    profile: str
    weights: str
    device: str
    device_name: str
    torch_version: str
    compile_mode: str
    workload: Workload
    stages: tuple[StageCost, ...]
    networks: tuple[NetworkCost, ...]
    peak_bytes: int
    seconds: float | None = None
    stock_seconds: float | None = None
    loop_seconds: float | None = None
    eager_seconds: float | None = None

    @property
    def faces_per_minute(self) -> float | None:
        """Of the whole workload."""
        return None if self.seconds is None else 60 * self.workload.faces / self.seconds

    @property
    def speed_up(self) -> float | None:
        """How many times as long diffusers' pipeline takes."""
        if self.seconds is None or self.stock_seconds is None:
            return None
        return self.stock_seconds / self.seconds
