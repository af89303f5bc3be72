"""Which addresses count as public: every block of IANA's two special-purpose registries."""

import ipaddress

import pytest
from contract_calls import GOOD, assert_error

from server.api.addresses import is_public

# Block, and whether the registry calls it globally reachable ("N/A" counts as no).
REGISTERED = {
    "0.0.0.0/8": False,
    "0.0.0.0/32": False,
    "10.0.0.0/8": False,
    "100.64.0.0/10": False,
    "127.0.0.0/8": False,
    "169.254.0.0/16": False,
    "172.16.0.0/12": False,
    "192.0.0.0/29": False,
    "192.0.0.8/32": False,
    "192.0.0.9/32": True,
    "192.0.0.10/32": True,
    "192.0.0.170/32": False,
    "192.0.0.171/32": False,
    "192.0.2.0/24": False,
    "192.31.196.0/24": True,
    "192.52.193.0/24": True,
    "192.88.99.0/24": False,
    "192.88.99.2/32": False,
    "192.168.0.0/16": False,
    "192.175.48.0/24": True,
    "198.18.0.0/15": False,
    "198.51.100.0/24": False,
    "203.0.113.0/24": False,
    "240.0.0.0/4": False,
    "255.255.255.255/32": False,
    "::1/128": False,
    "::/128": False,
    "64:ff9b:1::/48": False,
    "100::/64": False,
    "100:0:0:1::/64": False,
    "2001::/32": False,
    "2001:1::1/128": True,
    "2001:1::2/128": True,
    "2001:1::3/128": True,
    "2001:2::/48": False,
    "2001:3::/32": True,
    "2001:4:112::/48": True,
    "2001:10::/28": False,
    "2001:20::/28": True,
    "2001:30::/28": True,
    "2001:db8::/32": False,
    "2002::/16": False,
    "2620:4f:8000::/48": True,
    "3fff::/20": False,
    "5f00::/16": False,
    "fc00::/7": False,
    "fe80::/10": False,
}


@pytest.mark.parametrize(("block", "public"), REGISTERED.items())
def test_a_registered_block_is_public_if_it_is_globally_reachable(block: str, public: bool) -> None:
    network = ipaddress.ip_network(block)
    middle = network[network.num_addresses // 2]
    for address in {network[0], middle, network[-1]}:
        assert is_public(str(address)) is public, address


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("192.0.1.1", True),
        ("223.255.255.255", True),
        ("224.0.0.1", False),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("2001:200::1", True),
        ("::ffff:93.184.215.14", True),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::93.184.215.14", True),
        ("64:ff9b::10.0.0.1", False),
        ("::127.0.0.1", False),
        ("::93.184.215.14", False),
        ("::ffff:0:127.0.0.1", False),
        ("::ffff:0:93.184.215.14", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("feff::1", False),
        ("4000::1", False),
        ("fe80::1%lo", False),
        ("ff0e::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "host", ["[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[fec0::1]", "[64:ff9b:1::a00:1]"]
)
def test_a_url_that_names_one_of_the_rest_is_refused(service, host: str) -> None:
    reply = service.post(service.new_key(), **GOOD | {"image": f"http://{host}/face.png"})
    assert_error(reply, 400, "Invalid image: its URL does not lead to a public address")
