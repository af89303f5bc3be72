"""The HTTP service: the wire contract, accounts and credits, the queue and its workers, the command line."""
