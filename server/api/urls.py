"""URLs that strangers send: whether they can be understood, and where they point to, as far as that
can be seen without looking a name up.
"""

import ipaddress
import re
import socket
from typing import Final

import httpx

_LONGEST_HOST: Final = 253
_MOST_PORTS: Final = 2**16
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)


class ImpossibleUrl(ValueError):
    """No server can be behind it."""


def understood(text: str) -> httpx.URL:
    """A URL that may lead somewhere.

    Raises:
        ImpossibleUrl: it is none, or its host or port cannot be.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ImpossibleUrl(text) from error
    check(url)
    return url


def http_url(text: str) -> httpx.URL:
    """An http or https URL that may lead somewhere.

    Raises:
        ImpossibleUrl: it is none.
    """
    url = understood(text)
    if url.scheme not in ("http", "https"):
        raise ImpossibleUrl(text)
    return url


def check(url: httpx.URL) -> None:
    """See that a URL may lead somewhere.

    Raises:
        ImpossibleUrl: its host or port cannot be.
    """
    try:
        # Decodes Punycode, which httpx does again when it sends.
        possible = bool(url.host) and is_host(url.raw_host.decode("ascii"))
    except UnicodeError as error:
        raise ImpossibleUrl(str(url)) from error
    if not possible or not (url.port is None or 0 < url.port < _MOST_PORTS):
        raise ImpossibleUrl(str(url))


def is_host(host: str) -> bool:
    """Whether this may be a host's name or address, an IPv6 address without its brackets."""
    if ":" in host:
        return _is_ipv6(host)
    labels = host.removesuffix(".").split(".")
    if len(host) > _LONGEST_HOST or not all(map(_LABEL.fullmatch, labels)):
        return False
    # A name whose last label is a number is an IPv4 address, as browsers have it.
    return not _NUMBER.fullmatch(labels[-1]) or _ipv4(host) is not None


def literal_address(url: httpx.URL) -> str | None:
    """The IP address that a URL of `understood` names, in any spelling; None if it has a name.

    `localhost` is no such name: it and all below it are this machine's (RFC 6761, section 6.3).
    """
    host = url.raw_host.decode("ascii")
    if host.lower().removesuffix(".").rpartition(".")[2] == "localhost":
        return "127.0.0.1"
    return host if ":" in host else _ipv4(host)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _ipv4(host: str) -> str | None:
    try:
        return str(ipaddress.IPv4Address(socket.inet_aton(host.removesuffix("."))))
    except OSError:
        return None
