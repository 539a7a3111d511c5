"""The address policy over all addresses: wrapping an IPv4 address into IPv6 never opens what is closed."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from delivery.egress import EgressPolicy, check_url
from delivery.errors import InvalidUrl

PUBLIC = EgressPolicy()
PRIVATE = EgressPolicy(allow_private=True)
V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)


@given(inner=V4)
def test_mapped_address_is_judged_as_what_it_wraps(inner: ipaddress.IPv4Address) -> None:
    """::ffff:a.b.c.d reaches a.b.c.d, so it is allowed exactly when that is."""
    mapped = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + inner.packed)
    for policy in (PUBLIC, PRIVATE):
        assert policy.allows(mapped) == policy.allows(inner)


@given(inner=V4, shape=st.sampled_from(["compatible", "nat64", "6to4", "teredo"]))
def test_translated_address_is_never_allowed(inner: ipaddress.IPv4Address, shape: str) -> None:
    """Ways to write an IPv4 destination that a gateway on the path would translate are closed."""
    number = int(inner)
    wrapped = {
        "compatible": number,
        "nat64": (0x64FF9B << 96) | number,
        "6to4": (0x2002 << 112) | (number << 80),
        "teredo": (0x20010000 << 96) | (number ^ 0xFFFFFFFF),
    }[shape]
    address = ipaddress.IPv6Address(wrapped)
    assert not PUBLIC.allows(address)
    assert not PRIVATE.allows(address) or address == ipaddress.IPv6Address("::1")


@given(inner=V4)
def test_development_closes_nothing_that_is_open(inner: ipaddress.IPv4Address) -> None:
    """Allowing private addresses only adds."""
    assert PRIVATE.allows(inner) or not PUBLIC.allows(inner)


@given(text=st.text(max_size=60), host=st.from_regex(r"[a-zA-Z0-9.:\[\]%@_-]{0,30}", fullmatch=True))
def test_any_text_is_accepted_or_refused_with_a_reason(text: str, host: str) -> None:
    """No URL makes the check itself fail."""
    for url in (text, f"https://{text}", f"https://{host}/", f"https://{host}:443/{text}"):
        for policy in (PUBLIC, PRIVATE):
            try:
                check_url(url, policy)
            except InvalidUrl as refused:
                assert refused.reason
