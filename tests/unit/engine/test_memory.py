"""What a writer remembers: true of one head, bounded, and nothing of what has to be read with what follows from it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from engine.balances import Totals
from engine.books import Books
from engine.feed import Head
from engine.memory import Memories, Memory
from engine.needs import Needs
from engine.rows import AccountRow

FIRST = Head(sequence=1, hash=b"1", last_at=1, epoch="e")
SECOND = replace(FIRST, sequence=2, hash=b"2")


def account(account_id: str, **changed: Any) -> AccountRow:
    """Return an account's row, as far as it matters here."""
    row = {
        "id": account_id,
        "ledger_id": "main",
        "external_id": None,
        "code": None,
        "purpose": None,
        "categories": 0,
        "monitors": 0,
    }
    return cast("AccountRow", {**row, **changed})


def books(*rows: AccountRow, version: int = 1) -> Books:
    """Return books that know these accounts, and their ledger."""
    found = Books()
    found.learn(accounts=[(row, Totals(0, 0, 0, 0, version)) for row in rows])
    found.learn(ledgers=[cast("Any", {"id": "main", "closed_until": None})])
    return found


def known(memory: Memory, *wanted: str) -> set[str]:
    """Return which of the accounts need not be read."""
    _, left = memory.recall(Needs(accounts=set(wanted)))
    return set(wanted) - left.accounts


def test_accounts_of_a_batch_are_known_as_it_left_them() -> None:
    """By id and by name; what is not known is left to be read."""
    memory = Memory()
    memory.learn(books(account("a", external_id="till")), FIRST, SECOND)
    found, left = memory.recall(Needs(accounts={"b"}, account_external_ids={"till", "other"}))
    assert memory.head == SECOND
    assert (found.account_named("till"), found.totals("a").lock_version) == ("a", 1)
    assert (left.accounts, left.account_external_ids) == ({"b"}, {"other"})


def test_asking_changes_nothing_of_what_was_asked() -> None:
    """The needs are the batch's own: what is left is another set."""
    memory = Memory()
    memory.learn(books(account("a")), FIRST, SECOND)
    needs = Needs(accounts={"a"})
    memory.recall(needs)
    assert needs.accounts == {"a"}


def test_ledgers_are_asked_for_where_periods_matter() -> None:
    """A ledger that is known is given; one that is not is left to be read, though its account is known."""
    memory = Memory()
    memory.learn(books(account("a"), account("b", ledger_id="other")), FIRST, SECOND)
    found, left = memory.recall(Needs(accounts={"a", "b"}, periods=True))
    assert found.ledger("main") is not None
    assert left.ledgers == {"other"}
    assert memory.recall(Needs(accounts={"a", "b"}))[1].ledgers == set()


def test_books_of_another_head_are_all_that_is_known_then() -> None:
    """Somebody else wrote between: nothing from before counts."""
    memory = Memory()
    memory.learn(books(account("a")), FIRST, SECOND)
    memory.learn(books(account("b")), FIRST, replace(SECOND, sequence=9))
    assert known(memory, "a", "b") == {"b"}


@pytest.mark.parametrize("changed", [{"categories": 1}, {"monitors": 1}])
def test_account_whose_moves_have_consequences_is_not_remembered(changed: dict[str, int]) -> None:
    """Once it is in a category or watched it is forgotten, by its name too."""
    memory = Memory()
    memory.learn(books(account("a", external_id="till")), FIRST, SECOND)
    memory.learn(books(account("a", external_id="till", **changed)), SECOND, SECOND)
    _, left = memory.recall(Needs(accounts={"a"}, account_external_ids={"till"}))
    assert (left.accounts, left.account_external_ids) == ({"a"}, {"till"})


def test_name_that_an_account_gave_up_leads_nowhere() -> None:
    """The account stays known under the name it has now."""
    memory = Memory()
    memory.learn(books(account("a", external_id="old")), FIRST, SECOND)
    memory.learn(books(account("a", external_id="new")), SECOND, SECOND)
    _, left = memory.recall(Needs(account_external_ids={"old", "new"}))
    assert left.account_external_ids == {"old"}


def test_what_was_not_used_for_two_generations_is_forgotten() -> None:
    """What is used stays, however many come and go."""
    memory = Memory(accounts_max=2)
    memory.learn(books(account("kept"), account("left", external_id="l")), FIRST, SECOND)
    for number in range(4):
        assert known(memory, "kept") == {"kept"}
        memory.learn(books(account(f"{number}a"), account(f"{number}b")), SECOND, SECOND)
    assert known(memory, "left", "0a", "3a") == {"3a"}
    assert memory.recall(Needs(account_external_ids={"l"}))[1].account_external_ids == {"l"}


def test_forgetting_is_of_everything() -> None:
    """No head, no accounts, no names, no ledgers."""
    memory = Memory()
    memory.learn(books(account("a", external_id="till")), FIRST, SECOND)
    memory.forget()
    _, left = memory.recall(Needs(accounts={"a"}, account_external_ids={"till"}, ledgers={"main"}))
    assert (memory.head, left.accounts, left.account_external_ids, left.ledgers) == (None, {"a"}, {"till"}, {"main"})


def test_site_that_wrote_longest_ago_is_forgotten_when_all_together_hold_too_much() -> None:
    """Not the one that writes, however much it holds."""
    memories = Memories(together_max=3)
    first, second, third = (memories.open() for _ in range(3))
    first.learn(books(account("a")), FIRST, SECOND)
    second.learn(books(account("b")), FIRST, SECOND)
    first.learn(books(account("a")), SECOND, SECOND)
    third.learn(books(account("c"), account("d")), FIRST, SECOND)
    assert [len(each) for each in (first, second, third)] == [1, 0, 2]
    third.learn(books(*(account(f"{number}") for number in range(9))), SECOND, SECOND)
    assert [len(each) for each in (first, second, third)] == [0, 0, 11]


def test_memory_of_a_site_that_was_forgotten_is_counted_anew() -> None:
    """What is forgotten by itself makes room for others."""
    memories = Memories(together_max=3)
    first, second = memories.open(), memories.open()
    first.learn(books(account("a"), account("b")), FIRST, SECOND)
    first.forget()
    first.learn(books(account("a")), FIRST, SECOND)
    second.learn(books(account("c"), account("d")), FIRST, SECOND)
    assert [len(each) for each in (first, second)] == [1, 2]
