"""What the API takes about endpoints, checked at decoding; nothing that a database or a header could refuse gets through."""

from __future__ import annotations

import msgspec
import pytest

from delivery.shapes import EndpointChange, EndpointCreate

GOOD = {"url": "https://example.com/", "event_types": ["entry.*"]}


def decoded(**fields: object) -> EndpointCreate:
    """Decode a registration with some fields added."""
    return msgspec.json.decode(msgspec.json.encode({**GOOD, **fields}), type=EndpointCreate)


@pytest.mark.parametrize(
    "fields",
    [
        {"unknown": 1}, {"url": ""}, {"url": "https://a\x00"}, {"event_types": []}, {"event_types": ["entry"]},
        {"event_types": ["**"]}, {"event_types": ["*.posted"]}, {"event_types": ["entry.posted\n"]},
        {"event_types": ["Entry.posted"]}, {"description": "a\x00b"}, {"metadata": {"": "x"}},
        {"metadata": {"k": "x" * 501}}, {"metadata": {"k": "\x00"}}, {"metadata": {str(i): "" for i in range(51)}},
        {"headers": {"X Y": "v"}}, {"headers": {"X:": "v"}}, {"headers": {"X\n": "v"}}, {"headers": {"X": "v\n"}},
        {"headers": {"X": "a\r\nB: c"}}, {"headers": {"X": "é"}}, {"timeout_s": 0}, {"timeout_s": 31},
        {"max_in_flight": 0}, {"max_in_flight": 257}, {"retry_schedule": []}, {"retry_schedule": [-1]},
        {"retry_schedule": [0] * 33}, {"retry_schedule": [604801]}, {"secret": "whsec_x"}, {"status": "paused"},
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_at_decoding(fields: dict[str, object]) -> None:
    """Limits, characters and unknown members are the shape's own business."""
    with pytest.raises(msgspec.ValidationError):
        decoded(**fields)


def test_good_registration_is_taken() -> None:
    """Everything optional may be given or left out."""
    assert decoded().headers == {}
    full = decoded(
        description="d", metadata={"k": "v"}, headers={"X-Key": "a b\tc"}, timeout_s=30, max_in_flight=256,
        retry_schedule=[0, 5, 604800],
    )  # fmt: skip
    assert full.retry_schedule == [0, 5, 604800]


def test_lone_surrogates_are_refused() -> None:
    """Text that is no Unicode text never reaches a store."""
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(b'{"url":"https://a/\\ud800","event_types":["*"]}', type=EndpointCreate)


def test_change_tells_left_out_from_null() -> None:
    """`null` goes back to the default, what is left out stays."""
    change = msgspec.json.decode(b'{"description":null}', type=EndpointChange)
    assert change.description is None
    assert change.timeout_s is msgspec.UNSET
