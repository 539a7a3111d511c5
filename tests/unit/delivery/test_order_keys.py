"""What has to stay in order: the keys of an event."""

from __future__ import annotations

import pytest

from delivery.errors import InvalidOrdering
from delivery.order_keys import check_ordering, order_keys, own_keys
from engine.filters import About


def about(*accounts: str, ledgers: tuple[str, ...] = (), metadata: tuple[dict[str, object], ...] = ()) -> About:
    """Return what an event about an entry touches."""
    return About(
        resource_type="entry",
        resource_id="e1",
        accounts=frozenset(accounts),
        ledgers=frozenset(ledgers),
        metadata=metadata,
    )


def keys(key: str, of: About) -> frozenset[str]:
    """Return the keys of an event by one key."""
    return order_keys("ordered_by", key, lambda: of)


def never() -> About:
    """Stand for an event that must not be looked into."""
    raise AssertionError


def test_parallel_has_no_keys_and_ordered_one_for_all() -> None:
    """Neither looks into the event."""
    assert order_keys("parallel", None, never) == frozenset()
    assert len(order_keys("ordered", None, never)) == 1


def test_every_account_of_an_entry_is_a_key() -> None:
    """Two entries share a key exactly where they share an account."""
    first, second, third = (keys("account", about(*accounts)) for accounts in (("a", "b"), ("b", "c"), ("c", "d")))
    assert len(first) == 2
    assert first & second
    assert not first & third


def test_ledger_and_resource_are_keys() -> None:
    """By the ledger's id; by the resource's type and id."""
    assert keys("ledger", about(ledgers=("l1",))) != keys("ledger", about(ledgers=("l2",)))
    assert len(keys("resource", about())) == 1


def test_metadata_goes_by_its_value_before_and_after_a_change() -> None:
    """An update that moves something to another value waits for both; no value, no key."""
    changed = about(metadata=({"order": "2"}, {"order": "1"}))
    assert keys("metadata.order", changed) >= keys("metadata.order", about(metadata=({"order": "1"},)))
    assert len(keys("metadata.order", changed)) == 2
    assert keys("metadata.order", about(metadata=({"other": "1"},))) == frozenset()


def test_same_value_under_another_key_is_another_key() -> None:
    """An account and a ledger with one id do not wait for each other."""
    assert not keys("account", about("x")) & keys("ledger", about(ledgers=("x",)))


def test_a_replay_has_the_same_keys_of_its_own() -> None:
    """What shares a key shares it within a replay too; with what is new, or with another replay, it shares none."""
    one, other = keys("account", about("x", "y")), keys("account", about("y"))
    assert len(own_keys("r1", one)) == 2
    assert own_keys("r1", one) & own_keys("r1", other)
    assert not own_keys("r1", one) & (one | own_keys("r2", one))


@pytest.mark.parametrize(("ordering", "key"), [("ordered_by", None), ("ordered", "account"), ("parallel", "account")])
def test_key_goes_with_ordered_by_and_with_nothing_else(ordering: str, key: str | None) -> None:
    """What would be ignored is refused."""
    with pytest.raises(InvalidOrdering):
        check_ordering(ordering, key)
