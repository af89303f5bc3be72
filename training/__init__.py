"""Trains the networks of the profile `tiny`, each by a resumable `python -m training.<name>`."""
