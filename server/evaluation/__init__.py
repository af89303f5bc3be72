"""Measurements of the pipeline on pictures whose right answer is known; `face-detailer eval`."""
