"""The wallet tutorial's words: what becomes of a body in them, and of the places of what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.tutorial_words import in_ours, pointer_in_theirs, speaks_theirs

LINE = {"ledger_account_id": "{{variables.a.id}}", "amount": "1", "direction": "credit"}


@pytest.mark.parametrize(
    ("body", "theirs"),
    [
        ({"ledger_transaction_template": {}}, True),
        ({"ledger_transaction_template": {}, "entries": []}, False),
        ({"entries": []}, False),
        ([], False),
        ("ledger_transaction_template", False),
        (None, False),
    ],
)
def test_a_body_is_in_their_words_where_it_has_their_template(body: Any, theirs: bool) -> None:
    """With both it is in neither's, and refused."""
    assert speaks_theirs(body) is theirs


def test_their_words_become_ours() -> None:
    """In the order they were sent; what is the same in both stays."""
    query = {"field": "id", "operator": "equals", "value": "x"}
    body = {
        "name": "n",
        "variables": {"a": {"type": "ledger_account", "query": query}, "b": {"type": "amount", "value": "1"}},
        "ledger_transaction_template": {
            "description": "d",
            "status": "posted",
            "ledger_entries": [LINE, {"amount": 2}],
        },
    }
    before = repr(body)
    assert in_ours(body) == {
        "name": "n",
        "variables": {"a": {"type": "account", "query": query}, "b": {"type": "amount", "value": "1"}},
        "entries": [
            {
                "description": "d",
                "status": "posted",
                "lines": [{"account_id": "{{variables.a.id}}", "amount": "1", "direction": "credit"}, {"amount": 2}],
            }
        ],
    }
    assert repr(body) == before


@pytest.mark.parametrize(
    "template", [None, "text", [], {}, {"ledger_entries": None}, {"ledger_entries": [None, 5, {"account_id": "a"}]}]
)
def test_whatever_is_sent_is_left_for_the_decoder(template: Any) -> None:
    """It is refused there, and never breaks here."""
    several: tuple[Any, ...] = (None, [], {"a": None}, {"a": {}}, {"a": {"type": None}})
    for variables in several:
        ours = in_ours({"ledger_transaction_template": template, "variables": variables})
        assert ours["variables"] == variables
        assert len(ours["entries"]) == 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("/entries/0/lines/3/account_id", "/ledger_transaction_template/ledger_entries/3/ledger_account_id"),
        ("/entries/0/lines/3/amount", "/ledger_transaction_template/ledger_entries/3/amount"),
        ("/entries/0/lines/12", "/ledger_transaction_template/ledger_entries/12"),
        ("/entries/0/lines", "/ledger_transaction_template/ledger_entries"),
        ("/entries/0/description", "/ledger_transaction_template/description"),
        ("/entries/0/lines_", "/ledger_transaction_template/lines_"),
        ("/entries/0", "/ledger_transaction_template"),
        ("/variables/entries/0/query", "/variables/entries/0/query"),
        ("/conditions/field", "/conditions/field"),
        ("", ""),
    ],
)
def test_places_are_named_in_the_words_that_were_sent(ours: str, theirs: str) -> None:
    """A client finds them in what it sent."""
    assert pointer_in_theirs(ours) == theirs
