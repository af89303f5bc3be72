"""Masks measured against labelled outlines."""

from evaluation.masks.run import Plan, Stages, run

__all__ = ["Plan", "Stages", "run"]
