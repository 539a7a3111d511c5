"""What is kept of an answer: holes for what events tell, and the very answer from both again, whatever the events are."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers import HOLE, restore, shorten
from engine.events import Diagnostics, EventDraft, data_of, encode

ONE, TWO, THREE = (b'{"id":"%d","lines":[]}' % number for number in (1, 2, 3))
LONG = b'{"id":"%s","metadata":{}}' % (b"7" * 60)

# Some are pieces of others, or begin as they do; many are the same.
DATAS = st.sampled_from([ONE, TWO, THREE, LONG, LONG[:-1], LONG + b" ", b"{}", b"[{}]", b"null", b"", ONE[:4]])
BETWEEN = st.sampled_from([b"", b",", b'{"data":[', b"]}", b'"a\\u0001"', b"{", ONE[:9], LONG[:50], HOLE])


def whole(answer: bytes, told: list[bytes]) -> bytes:
    """Return what is kept of an answer and its events together."""
    kept, first = shorten(answer, told)
    return kept if first is None else restore(kept, told[first : first + kept.count(HOLE)])


@given(st.lists(BETWEEN | DATAS), st.lists(DATAS))
def test_any_answer_is_the_same_again(pieces: list[bytes], told: list[bytes]) -> None:
    """Whatever it has of its events, how often and in which order."""
    answer = b"".join(pieces)
    assert whole(answer, told) == answer


@given(st.binary(max_size=20), st.lists(st.binary(max_size=4)))
def test_bytes_that_are_no_json_are_the_same_again(answer: bytes, told: list[bytes]) -> None:
    """What looks like a hole and is none stays what it is."""
    assert whole(answer, told) == answer


@given(st.lists(st.sampled_from([ONE, TWO, THREE, LONG]), min_size=1), st.integers(0, 3))
def test_answer_of_nothing_but_its_events_is_holes(told: list[bytes], before: int) -> None:
    """All of it, also where some tell the same, and where others come before them that the answer does not have."""
    missing = [b'{"id":"of none"}'] * before
    kept, first = shorten(b"[%s]" % b",".join(told), [*missing, *told])
    assert (kept, first) == (b"[%s]" % b",".join([HOLE] * len(told)), before)


@pytest.mark.parametrize(
    ("answer", "told", "expected"),
    [
        (ONE, [ONE], (HOLE, 0)),
        (TWO, [ONE, TWO], (HOLE, 1)),
        (b"[%s]" % TWO, [ONE, TWO, THREE], (b"[\x01]", 1)),
        (b"[%s,%s]" % (ONE, THREE), [ONE, TWO, THREE], (b"[\x01,%s]" % THREE, 0)),
        (b"[%s,%s]" % (TWO, ONE), [ONE, TWO], (b"[%s,\x01]" % TWO, 0)),
        (b"[%s,%s]" % (ONE, ONE), [ONE], (b"[\x01,%s]" % ONE, 0)),
        (b"[%s,%s]" % (LONG[:-1], LONG), [LONG], (b"[%s,%s]" % (LONG[:-1], LONG), None)),
        (b"[%s,\x01]" % ONE, [ONE], (b"[%s,\x01]" % ONE, None)),
        (b"[%s]" % ONE, [], (b"[%s]" % ONE, None)),
        (b"[%s]" % ONE, [TWO], (b"[%s]" % ONE, None)),
        (ONE + TWO, [ONE], (HOLE + TWO, 0)),
        (HOLE, [HOLE], (HOLE, 0)),
        (b" " * 9_000 + b"1", [b"1"], (b" " * 9_000 + b"1", None)),
        (b"{}", [], (b"{}", None)),
    ],
)
def test_holes_are_for_events_in_a_row(answer: bytes, told: list[bytes], expected: tuple[bytes, int | None]) -> None:
    """From the first that the answer has to the last that comes next; a byte that looks like a hole leaves all as it is."""
    assert shorten(answer, told) == expected


def test_what_is_far_behind_is_not_looked_for() -> None:
    """Where much is told between two entries, what follows is kept: to look through it for each event would take long."""
    near, far = (b"[%s,%s,%s]" % (ONE, b" " * size, TWO) for size in (8_000, 9_000))
    assert [shorten(each, [ONE, TWO])[0].count(HOLE) for each in (near, far)] == [2, 1]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_envelope_gives_its_data_back_to_the_byte(value: object) -> None:
    """As it was encoded, control characters in texts escaped, whatever stands beside it."""
    data = msgspec.json.encode({"data": value})
    draft = EventDraft(
        id="e", type="entry.posted", resource_type="entry", resource_id="r", data=data, previous=b'{"data":{}}'
    )
    body = encode(draft, sequence=1, at_us=0, organization="o", environment="e", diagnostics=Diagnostics())
    assert data_of(body) == data
    assert HOLE not in data
