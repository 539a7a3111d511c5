"""Web origins as browsers write them, what pages may read, and tickets that no address shows."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.origins import hidden_tickets, hide_tickets, origin_of, page_headers
from gledger.readers import origins

PAGE = "https://dashboard.example"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://dashboard.example/a?b#c", PAGE),
        ("https://dashboard.example:443", PAGE),
        ("http://dashboard.example:80/", "http://dashboard.example"),
        ("http://dashboard.example:443", "http://dashboard.example:443"),
        ("HTTPS://Dashboard.Example", PAGE),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_scheme_host_and_a_port_that_is_not_the_schemes_own(url: str, expected: str) -> None:
    """As the Origin header has it, so that they can be compared as texts."""
    assert origin_of(url) == expected


@pytest.mark.parametrize("text", ["*", "null", "dashboard.example", PAGE + "/", PAGE + ":443", "ftp://x", PAGE + ",*"])
def test_a_setting_that_is_no_origin_is_refused(text: str) -> None:
    """A star, a path or a port too many would never match, or match too much."""
    with pytest.raises(ValueError, match="origin"):
        origins(text)


def test_origins_are_read_from_a_list() -> None:
    """Separated by commas; none is none."""
    assert origins("") == ()
    assert origins(f"{PAGE}, http://localhost:3000") == (PAGE, "http://localhost:3000")


def test_only_an_allowed_origin_may_read_and_never_with_cookies() -> None:
    """Nothing is said to others, and caches are told that the answer depends on it."""
    for origin in (None, "null", "*", PAGE + ".evil.example", "https://evil.example"):
        for preflight in (False, True):
            assert page_headers(origin, (PAGE,), preflight=preflight) == {"vary": "origin"}
    for preflight in (False, True):
        found = page_headers(PAGE, (PAGE,), preflight=preflight)
        assert found["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in found


@pytest.mark.parametrize(
    ("query", "left", "tickets"),
    [
        (b"", b"", []),
        (b"a=1&b=2", b"a=1&b=2", []),
        (b"ticket=x", b"", ["x"]),
        (b"a=%20&ticket=x%2Ey&b=2", b"a=%20&b=2", ["x.y"]),
        (b"%74icket=x&ticket=y", b"", ["x", "y"]),
        (b"ticket", b"", [""]),
        (b"tickets=1&Ticket=2", b"tickets=1&Ticket=2", []),
    ],
)
def test_tickets_are_taken_out_of_the_address_however_they_are_written(
    query: bytes, left: bytes, tickets: list[str]
) -> None:
    """What stays is what stood there, byte for byte."""
    scope: dict[str, Any] = {"query_string": query}
    hide_tickets(scope)
    assert (scope["query_string"], hidden_tickets(scope)) == (left, tickets)
