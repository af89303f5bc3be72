"""Training code of the `tiny` profile: one resumable command per network, `python -m weights.training.<name>`."""
