"""Needs: gathered from many commands, and what is left of them when some was read."""

from __future__ import annotations

import pytest

from engine.needs import AccountsWith, Needs

QUESTION = AccountsWith(pairs=(("user", "1"),))
ONE = Needs(accounts={"a", "b"}, accounts_with={QUESTION}, resources={("kind", "id"): {"x", "y"}})


def test_needs_add_up() -> None:
    """Each row once, whoever needs it."""
    sum_ = Needs(accounts={"b", "c"}, resources={("kind", "id"): {"y"}, ("kind", "name"): {"n"}})
    sum_.add(ONE)
    sum_.add(Needs(periods=True))
    assert sum_ == Needs(
        accounts={"a", "b", "c"},
        accounts_with={QUESTION},
        periods=True,
        resources={("kind", "id"): {"x", "y"}, ("kind", "name"): {"n"}},
    )


def test_adding_leaves_what_was_added_alone() -> None:
    """Needs of a batch do not leak into those of a command."""
    sum_ = Needs()
    sum_.add(ONE)
    sum_.resource("kind", "z")
    sum_.accounts.add("z")
    assert ONE.resources == {("kind", "id"): {"x", "y"}}
    assert ONE.accounts == {"a", "b"}


def test_what_was_read_is_needed_no_more() -> None:
    """Of every kind of row apart; a kind of which nothing is left is not mentioned."""
    read = Needs(accounts={"a"}, accounts_with={QUESTION}, resources={("kind", "id"): {"x", "y"}}, entries={"a", "b"})
    assert ONE.beyond(read) == Needs(accounts={"b"})
    assert ONE.beyond(Needs()) == ONE
    assert not ONE.beyond(ONE)


def test_the_accounts_that_exchanges_pass_through_are_needed_of_each_ledger() -> None:
    """Those of one ledger are not those of another."""
    assert Needs(exchanging={"a", "b"}).beyond(Needs(exchanging={"a"}, purposeful=True)) == Needs(exchanging={"b"})
    assert not Needs(exchanging={"a"}).beyond(Needs(exchanging={"a"}))


def test_another_question_was_not_read() -> None:
    """More of the same is another question, and so is another ledger's."""
    for other in (AccountsWith(pairs=QUESTION.pairs, limit=16), AccountsWith(pairs=QUESTION.pairs, ledger_id="l")):
        assert ONE.beyond(Needs(accounts_with={other})).accounts_with == {QUESTION}


@pytest.mark.parametrize(
    "name", [each for each in Needs.__struct_fields__ if each not in {"resources", "periods", "purposeful", "links"}]
)
def test_any_need_is_a_need(name: str) -> None:
    """Nothing is overlooked."""
    needs = Needs()
    assert not needs
    getattr(needs, name).add("x")
    assert needs
