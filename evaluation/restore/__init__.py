"""Restoration measured: known faces are damaged, detailed and compared with what they were."""

from evaluation.restore.run import Plan, run

__all__ = ["Plan", "run"]
