"""Adapters: one heavy library per file, each fitting a role of `pipeline.stages`."""

import os

# Read by the libraries behind the adapters when they are imported, which is after this: nothing is
# fetched or reported, and no bar is drawn for weights that load in a second.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
)
