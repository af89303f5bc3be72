"""The page at `/`, on which people detail pictures in a browser."""

from server.api.page.serving import Page

__all__ = ["Page"]
