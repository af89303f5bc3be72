"""The HTTP side: the wire contract, and a call's way from the body to the reply."""
