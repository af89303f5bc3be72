"""A profile of small files on a server that misbehaves on request."""

from accounts_fixtures import cluster  # noqa: F401
from profile_fixtures import profile, server  # noqa: F401
