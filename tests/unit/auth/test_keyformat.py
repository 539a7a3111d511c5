"""How credentials look: form, checksum, and what their hashes are bound to."""

from __future__ import annotations

import os
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.errors import CredentialsInvalid, SiteNameInvalid
from auth.keyformat import (
    API_KEY_PATTERN,
    api_key_prefix,
    check_site_name,
    draw_api_key,
    draw_client_id,
    draw_client_secret,
    hash_secret,
    is_client_id,
    is_client_secret,
    parse_api_key,
)

DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


@pytest.mark.parametrize(("environment", "tag"), [("sandbox", "sbx"), ("production", "live")])
def test_an_api_key_has_the_published_form_and_reads_back(environment: str, tag: str) -> None:
    """What a secret scanner looks for is what is issued."""
    key = draw_api_key(environment, os.urandom)
    text = key.text()
    assert re.fullmatch(API_KEY_PATTERN, text)
    assert text.startswith(f"glk_{tag}_{key.key_id}_")
    assert len(text) == 4 + len(tag) + 1 + 12 + 1 + 43 + 6
    assert parse_api_key(text) == key
    assert text.startswith(api_key_prefix(environment, key.key_id) + "_")


def test_the_representation_of_a_key_keeps_its_secret() -> None:
    """A key that lands in a log says its id only."""
    key = draw_api_key("sandbox", os.urandom)
    assert key.secret not in repr(key)
    assert key.key_id in repr(key)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_different_chance_gives_different_secrets(one: bytes, other: bytes) -> None:
    """No bit of the 256 is lost."""
    first = draw_client_secret("sandbox", lambda n: one[:n])
    second = draw_client_secret("sandbox", lambda n: other[:n])
    assert (first == second) == (one == other)
    assert is_client_secret(first)


@given(st.integers(min_value=0, max_value=71), st.sampled_from(DIGITS))
def test_any_changed_character_is_noticed(at: int, digit: str) -> None:
    """A typing error is refused without a database."""
    text = draw_api_key("sandbox", lambda n: bytes(range(n))).text()
    at %= len(text)
    changed = text[:at] + digit + text[at + 1 :]
    if changed == text:
        assert parse_api_key(changed).text() == text
    else:
        with pytest.raises(CredentialsInvalid):
            parse_api_key(changed)


@pytest.mark.parametrize(
    "junk", ["", "glk_", "glk_sbx_", "glk_test_a_b", "x" * 5000, "glk_sbx_\0", "glk_sbx_" + "é" * 62, "\ud800"]
)
def test_junk_is_no_key(junk: str) -> None:
    """Whatever a header may hold, the answer is a refusal."""
    with pytest.raises(CredentialsInvalid):
        parse_api_key(junk)
    assert not is_client_id(junk)
    assert not is_client_secret(junk)


def test_a_key_with_a_line_end_is_no_key() -> None:
    """A pattern's end is the text's end, not the line's."""
    text = draw_api_key("sandbox", os.urandom).text()
    with pytest.raises(CredentialsInvalid):
        parse_api_key(text + "\n")
    assert not is_client_id(draw_client_id("sandbox", os.urandom) + "\n")


def test_client_ids_name_their_environment() -> None:
    """One sees at a glance whether a client is of the sandbox."""
    assert is_client_id(draw_client_id("sandbox", os.urandom))
    assert draw_client_id("production", os.urandom).startswith("glc_live_")


def test_a_hash_is_bound_to_pepper_kind_owner_and_secret() -> None:
    """The same secret elsewhere has another hash, and a stolen table without the pepper is worth nothing."""
    base = hash_secret(b"p" * 32, "client", "a", "s")
    others = [
        hash_secret(b"q" * 32, "client", "a", "s"),
        hash_secret(b"p" * 32, "api_key", "a", "s"),
        hash_secret(b"p" * 32, "client", "b", "s"),
        hash_secret(b"p" * 32, "client", "a", "t"),
    ]
    assert len({base, *others}) == 5


@pytest.mark.parametrize("name", ["acme-corp", "a", "a1", "0", "x" * 63])
def test_a_slug_can_name_an_organization(name: str) -> None:
    """Names that fit a file name, a host name and a URL."""
    check_site_name(name, "sandbox")


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "../x", "a/b", "x" * 64, "ä", "a\n"])
def test_another_name_cannot(name: str) -> None:
    """An organization's name ends up in a file's name: nothing in it may lead elsewhere."""
    with pytest.raises(SiteNameInvalid) as refused:
        check_site_name(name, "sandbox")
    assert refused.value.field == "organization"


def test_there_are_two_environments() -> None:
    """Sandbox and production, no third."""
    with pytest.raises(SiteNameInvalid) as refused:
        check_site_name("acme", "staging")
    assert refused.value.field == "environment"
