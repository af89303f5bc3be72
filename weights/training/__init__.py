"""Training of the `tiny` profile: a resumable `python -m weights.training.<name>` per network."""
