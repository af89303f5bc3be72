"""Adapters: one heavy library per file, each fitting a role of `pipeline.stages`."""
