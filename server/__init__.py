"""The HTTP service: wire contract, accounts and credits, queue and workers, command line."""

ENV_PREFIX = "FACE_DETAILER_"
"""What the environment variable of every setting begins with."""
