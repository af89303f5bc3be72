"""A profile of small files on a server that misbehaves on request."""

from profile_fixtures import profile, server  # noqa: F401
