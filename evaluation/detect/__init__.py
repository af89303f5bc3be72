"""Detection measured: recall and precision on composed scenes."""

from evaluation.detect.run import Plan, run

__all__ = ["Plan", "run"]
