"""What a device does with a profile: seconds, operations and memory of a made-up job."""

# First: it sets what the libraries behind the adapters read when they are imported.
import pipeline.loading  # noqa: F401
