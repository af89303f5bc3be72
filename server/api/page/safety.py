"""The headers of pages: what a browser may load for them, and that it frames none."""

from collections.abc import Mapping
from typing import Final

_NOTHING_ELSE: Final = {
    "default-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


def safe_headers(allowed: Mapping[str, str]) -> dict[str, str]:
    """The headers of a page that may do what these directives of its policy say, and no more.

    All pages of an address share what the browser keeps for it, the API key too: what one allows
    endangers the others.
    """
    policy = "; ".join(f"{name} {what}" for name, what in {**_NOTHING_ELSE, **allowed}.items())
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
