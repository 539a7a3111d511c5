"""The working copy and its layers: what is above hides what is below, and nothing leaks down before it is merged."""

from __future__ import annotations

import pytest

from engine.books import Books
from engine.commands import ArchiveEntry, UpdateEntry
from engine.entries import post_entry
from engine.occasion import Occasion
from tests.unit.engine.desk import SITE_ID, Desk, entry


@pytest.fixture
def desk() -> Desk:
    """Books with one ledger."""
    return Desk()


def test_layer_shows_what_is_below_until_it_has_its_own(desk: Desk) -> None:
    """Accounts, totals, entries, lines, names: read through, then over."""
    cash, sales = desk.account("asset", external_id="till"), desk.account("revenue")
    made = desk.post(cash, sales, 5, external_id="x")
    layer = Books(desk.books)
    assert layer.account(cash) == desk.books.account(cash)
    assert layer.account_named("till") == cash
    assert layer.ledger(desk.ledger_id) == desk.books.ledger(desk.ledger_id)
    assert (layer.entry(made), layer.lines(made)) == (desk.books.entry(made), desk.books.lines(made))
    assert layer.live_entry("x") == made
    layer.apply(post_entry(entry(cash, sales, 7, external_id="y"), layer, occasion(desk)))
    assert (layer.totals(cash)[0], desk.books.totals(cash)[0]) == (12, 5)
    assert layer.live_entry("y") is not None
    assert desk.books.live_entry("y") is None


def test_what_nobody_knows_is_absent(desk: Desk) -> None:
    """Through every layer; totals of an unknown account are a mistake of ours, not a refusal."""
    layer = Books(desk.books)
    absent = "00000000-0000-7000-8000-000000000000"
    found = [layer.ledger(absent), layer.account(absent), layer.entry(absent), layer.fact("k")]
    assert found == [None] * 4
    assert (layer.lines(absent), layer.live_entry("x"), layer.account_named("x")) == ([], None, None)
    with pytest.raises(KeyError):
        layer.totals(absent)


def test_external_id_released_in_a_layer_is_free_above_and_held_below(desk: Desk) -> None:
    """An absence above hides a presence below."""
    made = desk.post(desk.account("asset"), desk.account("revenue"), 5, status="pending", external_id="x")
    decision = desk.decide(ArchiveEntry(entry_id=made))
    layer = Books(desk.books)
    layer.apply(decision)
    assert (layer.live_entry("x"), desk.books.live_entry("x")) == (None, made)


def test_change_of_an_archived_entry_leaves_its_external_id_with_who_has_it_now(desk: Desk) -> None:
    """The name went to another entry; describing the old one does not free it again."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    old = desk.post(cash, sales, 5, status="pending", external_id="x")
    desk.run(ArchiveEntry(entry_id=old))
    new = desk.post(cash, sales, 5, external_id="x")
    desk.run(UpdateEntry(entry_id=old, description="given up"))
    assert desk.books.live_entry("x") == new


def occasion(desk: Desk) -> Occasion:
    """Return the desk's occasion."""
    return Occasion(site_id=SITE_ID, now_us=desk.now_us, ids=desk.ids)
