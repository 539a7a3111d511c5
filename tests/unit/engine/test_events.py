"""The envelope's bytes and the chain over them: partners sign, store and compare them, so they are pinned to the byte."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from engine.events import (
    ENTRY_TYPES,
    EVENT_TYPES,
    OPERATIONAL_TYPES,
    TEST_TYPE,
    BatchPlace,
    Diagnostics,
    EventDraft,
    chain,
    encode,
    genesis_hash,
    href,
)

AT_US = 1_763_726_400_123_456


def body(draft: EventDraft, diagnostics: Diagnostics | None = None) -> bytes:
    """Encode a draft as the 42nd event of a feed."""
    return encode(
        draft,
        sequence=42,
        at_us=AT_US,
        organization="acme-corp",
        environment="sandbox",
        diagnostics=diagnostics or Diagnostics(),
    )


PLAIN = EventDraft(id="e", type="entry.posted", resource_type="entry", resource_id="r", data=b'{"id":"r"}')


def test_envelope_is_these_bytes() -> None:
    """Field order, no spaces, six digits of a second; absent parts are absent, not null."""
    assert body(PLAIN) == (
        b'{"id":"e","type":"entry.posted","schema_version":1,"sequence":42,"timestamp":"2025-11-21T12:00:00.123456Z",'
        b'"organization":"acme-corp","environment":"sandbox",'
        b'"resource":{"type":"entry","id":"r","href":"/v1/entries/r"},"data":{"id":"r"},"diagnostics":{}}'
    )


def test_batch_previous_and_diagnostics_stand_where_they_are_given() -> None:
    """The resource's bytes are taken as they are, never encoded again."""
    draft = EventDraft(
        id="e",
        type="entry.updated",
        resource_type="entry",
        resource_id="r",
        data=b'{ "kept" : "as is" }',
        previous=b'{"description":null}',
        batch=BatchPlace("b", 1, 3),
    )
    made = body(draft, Diagnostics(request_id="q", correlation_id="c", traceparent="t"))
    assert b'"data":{ "kept" : "as is" },' in made
    assert made.endswith(
        b'"batch":{"id":"b","index":1,"count":3},"previous":{"description":null},'
        b'"diagnostics":{"request_id":"q","correlation_id":"c","traceparent":"t"}}'
    )
    assert msgspec.json.decode(made)["sequence"] == 42


def test_same_fact_makes_the_same_bytes() -> None:
    """Nothing in the encoding depends on when or where it runs."""
    assert body(PLAIN) == body(PLAIN)


def test_chain_is_sha_256_over_the_hash_before_and_the_bytes() -> None:
    """Anyone can check it with a hash function and the bytes they received."""
    first = genesis_hash(7, "e1")
    assert first == hashlib.sha256(b"gledger-live feed 7 e1").digest()
    assert chain(first, b"body") == hashlib.sha256(first + b"body").digest()


def test_every_feed_begins_with_a_hash_of_its_own() -> None:
    """Another site, or another epoch of the same site, is another history."""
    assert len({genesis_hash(7, "e1"), genesis_hash(8, "e1"), genesis_hash(7, "e2")}) == 3


@pytest.mark.parametrize(
    ("resource_type", "path"),
    [
        ("entry", "/v1/entries/x"),
        ("account", "/v1/accounts/x"),
        ("ledger", "/v1/ledgers/x"),
        ("hold", "/v1/holds/x"),
        ("endpoint", "/v1/webhook_endpoints/x"),
        ("delivery", "/v1/deliveries/x"),
    ],
)
def test_resource_is_shown_at_its_path(resource_type: str, path: str) -> None:
    """The canonical reference is the path of the API."""
    assert href(resource_type, "x") == path


def test_event_types_hold_every_family() -> None:
    """What a subscription may name: the entries' own types, the operational ones and the test."""
    assert {*ENTRY_TYPES, *OPERATIONAL_TYPES, TEST_TYPE} <= EVENT_TYPES
    assert all(event_type.count(".") == 1 for event_type in EVENT_TYPES)
