"""What a device does with a profile: seconds, operations and memory of a made-up workload."""

from evaluation.bench.report import BenchReport
from evaluation.bench.run import BenchSetup, count, run
from evaluation.bench.workload import Workload

__all__ = ["BenchReport", "BenchSetup", "Workload", "count", "run"]
