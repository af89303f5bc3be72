"""The server as an application of Ray Serve, for more than one machine."""
