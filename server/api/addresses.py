"""Which IP addresses are public: the rest is closed to URLs that strangers send."""

import ipaddress
from typing import Final

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*blocks: str) -> tuple[_Network, ...]:
    return tuple(map(ipaddress.ip_network, blocks))


# IANA's IPv4 and IPv6 Special-Purpose Address Registries: every block that is not "globally
# reachable", but for smaller ones within these. Python's own `is_global` follows the registries
# only in its latest releases, and takes what they do not list for public.
_SPECIAL: Final = _networks(
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
    *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
)
# The blocks within those that are globally reachable all the same.
_REACHABLE: Final = _networks(
    *("192.0.0.9/32", "192.0.0.10/32"),
    *("2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32", "2001:4:112::/48"),
    *("2001:20::/28", "2001:30::/28"),
)
# All that IANA gives out for use on the internet (Internet Protocol Version 6 Address Space).
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# An IPv4 address in their last 32 bits is what is connected to: RFC 4291, RFC 6052.
_WRAPPED_IPV4: Final = _networks("::ffff:0:0/96", "64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address, with or without a scope, is one of the internet.

    IPv4 addresses that are mapped into IPv6, or translated by NAT64, count as what they are.

    Raises:
        ValueError: it is no IP address.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if _in(ip, _WRAPPED_IPV4):
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)))
        if ip not in _GLOBAL_UNICAST:
            return False
    return not ip.is_multicast and (not _in(ip, _SPECIAL) or _in(ip, _REACHABLE))


def _in(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[_Network, ...]) -> bool:
    return any(ip in network for network in networks)
