"""The HTTP service: wire contract, accounts and credits, queue and workers, command line."""
