"""Signatures: the published vectors, the specification's rules, and an independent verifier."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from delivery.errors import InvalidSecret, SignatureRejected
from delivery.signing import (
    TOLERANCE_S,
    format_public,
    format_secret,
    parse_secret,
    parse_signing_key,
    parse_verifying_key,
    sign,
    signature_header,
    signing_key,
    verify,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT_S = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
BAD = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
SIGNATURE_A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
ALSO_BAD = "v1,R3PTzyfHASBKHH98a7yexTwaJ4yNIcGhFQc1yuN+BPU="


def headers(**changed: str | None) -> dict[str, str]:
    """Return the headers of the published message, some changed or left out."""
    given = {"id": MESSAGE_ID, "timestamp": str(SENT_S), "signature": SIGNATURE, **changed}
    return {f"webhook-{name}": value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("secret", "message_id", "sent_s", "body", "signature"),
    [
        (SECRET, MESSAGE_ID, SENT_S, BODY, SIGNATURE),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1649367553,
            b'{"email":"test@example.com","username":"test_user"}',
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ],
)
def test_published_vectors_are_met(secret: str, message_id: str, sent_s: int, body: bytes, signature: str) -> None:
    """The vectors of the specification's libraries come out byte for byte."""
    assert sign(parse_secret(secret), message_id, sent_s, body) == signature


def test_published_vector_of_the_asymmetric_scheme_is_met() -> None:
    """Ed25519 over the same bytes; the public key, the private key's public half and its seed agree."""
    assert sign(parse_signing_key(PRIVATE), MESSAGE_ID, SENT_S, BODY) == SIGNATURE_A
    seed = base64.b64decode(PRIVATE.removeprefix("whsk_"))[:32]
    assert format_public(seed) == PUBLIC
    assert sign(signing_key("v1a", seed), MESSAGE_ID, SENT_S, BODY) == SIGNATURE_A
    for key in (PUBLIC, PRIVATE, PUBLIC.rstrip("=")):
        verify([parse_verifying_key(key)], headers(signature=f"{BAD} {SIGNATURE_A}"), BODY, SENT_S)


@pytest.mark.parametrize(
    "signature",
    [SIGNATURE, f"v1{SIGNATURE_A[3:]}", SIGNATURE_A[:-8], "v1a,", "v1a,é", f"v1a,{PUBLIC[5:]}", SIGNATURE_A[4:]],
)
def test_what_the_private_key_did_not_sign_is_rejected(signature: str) -> None:
    """A signature of the other scheme, a part of one, or one under the wrong name verifies nothing."""
    with pytest.raises(SignatureRejected):
        verify([parse_verifying_key(PUBLIC)], headers(signature=signature), BODY, SENT_S)


def test_a_secret_does_not_verify_what_a_private_key_signed() -> None:
    """Nor is a public key ever taken for a secret: that would let anybody sign."""
    with pytest.raises(SignatureRejected):
        verify([parse_secret(SECRET)], headers(signature=SIGNATURE_A), BODY, SENT_S)
    with pytest.raises(InvalidSecret):
        parse_signing_key(PUBLIC)


@pytest.mark.parametrize(
    "text", ["whsk_", "whpk_", "whsk_AAAA", "whpk_AAAA", "whpk_" + PRIVATE[5:], PRIVATE[:-8] + "AAAAAAA=", "whpk_!"]
)
def test_unreadable_keys_of_the_asymmetric_scheme_are_refused(text: str) -> None:
    """Lengths are checked, and that the halves of a private key belong together."""
    with pytest.raises(InvalidSecret):
        parse_verifying_key(text)


@pytest.mark.parametrize("length", [24, 25, 26, 32, 64])
@pytest.mark.parametrize("prefix", ["", "whsec_"])
@pytest.mark.parametrize("padded", [True, False])
def test_secret_is_read_with_or_without_prefix_and_padding(length: int, prefix: str, padded: bool) -> None:
    """All forms in which receivers keep a secret mean the same key; lengths cover one and two missing signs."""
    key = bytes(range(length))
    text = base64.b64encode(key).decode()
    assert parse_secret(prefix + (text if padded else text.rstrip("="))) == key


@pytest.mark.parametrize("text", ["", "whsec_", "====", "whsec_====", "whsec_not base64!", "a", "whsec_a"])
def test_empty_or_unreadable_secret_is_refused(text: str) -> None:
    """A secret without a key in it never becomes an empty HMAC key."""
    with pytest.raises(InvalidSecret):
        parse_secret(text)


def test_secret_survives_being_shown() -> None:
    """What the partner is shown reads back as the same key."""
    key = bytes(range(32))
    assert format_secret(key).startswith("whsec_")
    assert parse_secret(format_secret(key)) == key


def test_published_message_verifies() -> None:
    """The verifier accepts the published message at its own time."""
    verify([parse_secret(SECRET)], headers(), BODY, SENT_S)


def test_header_names_are_read_in_any_case() -> None:
    """HTTP header names have no case."""
    shouted = {name.upper(): value for name, value in headers().items()}
    verify([parse_secret(SECRET)], shouted, BODY, SENT_S)


def test_one_good_signature_among_bad_ones_is_enough() -> None:
    """A list over versions and keys verifies by the one that matches."""
    listed = f"{BAD} v2,{SIGNATURE[3:]} {SIGNATURE} {ALSO_BAD}"
    verify([parse_secret(SECRET)], headers(signature=listed), BODY, SENT_S)


def test_any_of_several_keys_may_match() -> None:
    """During a rotation the old key and the new one both verify."""
    verify([b"another key", parse_secret(SECRET)], headers(), BODY, SENT_S)


@pytest.mark.parametrize(
    "signature",
    [BAD, f"{BAD} {ALSO_BAD}", "v1,", SIGNATURE[:8], SIGNATURE[3:], f"v2{SIGNATURE[2:]}", f"v1a{SIGNATURE[2:]}", "é"],
)
def test_wrong_or_partial_signature_is_rejected(signature: str) -> None:
    """Nothing but the whole signature of the right version matches."""
    with pytest.raises(SignatureRejected) as refused:
        verify([parse_secret(SECRET)], headers(signature=signature), BODY, SENT_S)
    assert refused.value.reason == "no_match"


@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_missing_header_is_rejected(name: str) -> None:
    """Each of the three headers is needed."""
    with pytest.raises(SignatureRejected) as refused:
        verify([parse_secret(SECRET)], headers(**{name: None}), BODY, SENT_S)
    assert refused.value.reason == "header_missing"


@pytest.mark.parametrize("sent", ["hello", "-1", "1.5", "１６１４２６５３３０", " 1614265330"])
def test_timestamp_that_is_no_number_is_rejected(sent: str) -> None:
    """A timestamp is decimal seconds and nothing else."""
    with pytest.raises(SignatureRejected) as refused:
        verify([parse_secret(SECRET)], headers(timestamp=sent), BODY, SENT_S)
    assert refused.value.reason == "timestamp_invalid"


@pytest.mark.parametrize(("offset_s", "accepted"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_tolerance_holds_both_ways(offset_s: int, accepted: bool) -> None:
    """Five minutes late or early is the limit."""
    assert TOLERANCE_S == 300
    if accepted:
        verify([parse_secret(SECRET)], headers(), BODY, SENT_S + offset_s)
    else:
        with pytest.raises(SignatureRejected) as refused:
            verify([parse_secret(SECRET)], headers(), BODY, SENT_S + offset_s)
        assert refused.value.reason == "timestamp_outside"


@pytest.mark.parametrize("changed", [{"id": "msg_other"}, {"timestamp": str(SENT_S + 1)}])
def test_id_and_timestamp_are_signed_too(changed: dict[str, str]) -> None:
    """Neither can be exchanged under a valid signature."""
    with pytest.raises(SignatureRejected):
        verify([parse_secret(SECRET)], headers(**changed), BODY, SENT_S)


def test_empty_body_is_signed_as_id_and_timestamp() -> None:
    """An empty payload leaves `id.timestamp.`, with the second point."""
    key = parse_secret(SECRET)
    signature = sign(key, MESSAGE_ID, SENT_S, b"")
    assert signature == Webhook(SECRET).sign(MESSAGE_ID, _at(SENT_S), "")
    verify([key], headers(signature=signature), b"", SENT_S)


@pytest.mark.parametrize("signing", [0, 1, 2])
def test_reference_verifier_accepts_what_we_sign(signing: int) -> None:
    """The specification's own library verifies our header with each of the keys of a rotation, and with no other."""
    keys = [bytes([number]) * 32 for number in range(3)]
    now_s = int(time.time())
    given = {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(now_s),
        "webhook-signature": signature_header(keys, MESSAGE_ID, now_s, BODY),
    }
    assert Webhook(keys[signing]).verify(BODY, given) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook(b"k" * 32).verify(BODY, given)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
