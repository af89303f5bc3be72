"""Enlargement measured on photographs that were shrunk."""

from evaluation.upscale.run import Plan, run

__all__ = ["Plan", "run"]
