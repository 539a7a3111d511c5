"""Asynchronous posting: what is looked at when an entry is accepted, and what becomes of it later."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from engine.books import Decision
from engine.commands import (
    AcceptEntry,
    CloseAccount,
    Condition,
    LineDraft,
    PostAccepted,
    PostEntry,
    PostPending,
    Tend,
    UpdateEntry,
    UpdateLedger,
)
from engine.entry_errors import PeriodClosed
from engine.errors import AccountNotFound, DuplicateEntry, EntryNotPending, UnbalancedEntry
from tests.fakes.clock import START_US
from tests.unit.engine.desk import SITE_ID, Desk, entry, line, told


@pytest.fixture
def desk() -> Desk:
    """A desk."""
    return Desk()


@pytest.fixture
def pair(desk: Desk) -> tuple[str, str]:
    """A wallet that must not be overdrawn, and cash."""
    return desk.account("liability", allow_negative=False, external_id="wallet"), desk.account("asset")


def accept(desk: Desk, command: PostEntry) -> Decision:
    """Have an entry accepted."""
    return desk.run(AcceptEntry(entry=command))


def test_an_accepted_entry_has_moved_nothing(desk: Desk, pair: tuple[str, str]) -> None:
    """Nor are there funds for it; what it was accepted with is kept as it is stored."""
    wallet, cash = pair
    condition = Condition(balance="posted", operator="gte", value=-5)
    lines = (
        LineDraft(account="external_id:wallet", direction="debit", amount=5, metadata={"k": "v"}, lock_version=7,
                  conditions=(condition,)),
        line(cash, "credit", 5),
    )  # fmt: skip
    decision = accept(desk, PostEntry(lines=lines, description="d", external_id="x", metadata={"m": "n"}))
    assert (decision.lines, decision.totals, desk.totals(wallet)) == ([], {}, (0, 0, 0, 0))
    [row] = decision.entries
    assert (row["status"], row["lines_version"], row["posted_at"], row["effective_at"]) == (
        "accepted",
        0,
        None,
        START_US,
    )
    assert (row["description"], row["external_id"], row["metadata"]) == ("d", "x", {"m": "n"})
    [(kind, acceptance)] = decision.resources
    assert kind == "acceptance"
    first, second = acceptance["lines"]
    assert acceptance == {
        "site_id": SITE_ID, "id": decision.resource_id, "position": 1, "rejection": None, "diagnostics": {},
        "created_at": START_US, "lines": [
            {"id": first["id"], "account": wallet, "direction": "debit", "amount": 5, "currency": "EUR",
             "metadata": {"k": "v"}, "lock_version": 7, "conditions": [["posted", "gte", -5]]},
            {"id": second["id"], "account": cash, "direction": "credit", "amount": 5, "currency": "EUR",
             "metadata": {}, "lock_version": None, "conditions": []},
        ],
    }  # fmt: skip
    assert [event.type for event in decision.events] == ["entry.created"]
    answer = told(decision)
    assert [each["id"] for each in answer["lines"]] == [first["id"], second["id"]]
    again = accept(desk, entry(cash, wallet, 1))
    assert again.resources[0][1]["position"] == 2


def test_what_can_be_told_without_balances_is_told_at_once(desk: Desk, pair: tuple[str, str]) -> None:
    """Balance of the lines, accounts, names, closed times."""
    wallet, cash = pair
    accept(desk, entry(cash, wallet, 1, external_id="x"))
    desk.run(UpdateLedger(ledger_id=desk.ledger_id, closed_until=START_US))
    wrong: list[tuple[Any, type[Exception]]] = [
        (entry(cash, wallet, 1, external_id="x"), DuplicateEntry),
        (entry(cash, wallet, 1, effective_at=START_US - 1), PeriodClosed),
        (entry(cash, "external_id:nobody", 1), AccountNotFound),
        (PostEntry(lines=(line(cash, "debit", 1), line(wallet, "credit", 2))), UnbalancedEntry),
    ]
    for command, refused in wrong:
        with pytest.raises(refused):
            accept(desk, command)


def test_it_is_posted_with_the_lines_that_were_told(desk: Desk, pair: tuple[str, str]) -> None:
    """Later, at the time it takes effect."""
    wallet, cash = pair
    accepted = accept(desk, entry(cash, wallet, 9, effective_at=START_US - 5, external_id="x"))
    desk.now_us += 50
    decision = desk.run(PostAccepted(entry_id=accepted.resource_id or ""))
    [row] = decision.entries
    assert (row["status"], row["posted_at"], row["lines_version"], row["lock_version"]) == (
        "posted",
        START_US + 50,
        1,
        2,
    )
    assert [each["id"] for each in decision.lines] == [each["id"] for each in told(accepted)["lines"]]
    assert {each["effective_at"] for each in decision.lines} == {START_US - 5}
    assert (desk.totals(wallet), [event.type for event in decision.events]) == ((0, 9, 0, 0), ["entry.posted"])
    assert decision.resources == []


@pytest.mark.parametrize("why", ["funds", "version", "condition", "closed", "period"])
def test_it_is_rejected_with_the_reason(desk: Desk, pair: tuple[str, str], why: str) -> None:
    """As posting it at once would have been refused; it never raises, and frees its external id."""
    wallet, cash = pair
    command = entry(cash, wallet, 5, external_id="x", effective_at=START_US - 5)
    condition = Condition(balance="available", operator="lt", value=5)
    demanding: Any = {"version": {"lock_version": 9}, "condition": {"conditions": (condition,)}}.get(why, {})
    command = replace(command, lines=(command.lines[0], replace(command.lines[1], **demanding)))
    if why == "funds":
        command = entry(wallet, cash, 5, external_id="x")
    entry_id = accept(desk, command).resource_id or ""
    if why == "closed":
        desk.run(CloseAccount(account_id=wallet))
    if why == "period":
        desk.run(UpdateLedger(ledger_id=desk.ledger_id, closed_until=START_US))
    before = desk.totals(wallet)
    decision = desk.run(PostAccepted(entry_id=entry_id))
    [row] = decision.entries
    assert (row["status"], row["posted_at"], row["lines_version"], row["lock_version"]) == ("rejected", None, 0, 2)
    [(kind, acceptance)] = decision.resources
    code = {"funds": "InsufficientFunds", "version": "LockVersionConflict", "condition": "ConditionFailed",
            "closed": "AccountClosed", "period": "PeriodClosed"}[why]  # fmt: skip
    assert (kind, acceptance["rejection"]["code"]) == ("acceptance", code)
    [event] = decision.events
    shown = msgspec.json.decode(event.data)
    assert (event.type, shown["status"], shown["rejection"]["code"]) == ("entry.rejected", "rejected", code)
    assert [each["amount"] for each in shown["lines"]] == [5, 5]
    assert (decision.lines, desk.totals(wallet), desk.books.live_entry("x")) == ([], before, None)


def test_only_its_words_change_while_it_waits(desk: Desk, pair: tuple[str, str]) -> None:
    """Its lines are nobody's to change, and it is not pending."""
    wallet, cash = pair
    entry_id = accept(desk, entry(cash, wallet, 5)).resource_id or ""
    answer = told(desk.run(UpdateEntry(entry_id=entry_id, description="d")))
    assert (answer["status"], answer["description"], len(answer["lines"])) == ("accepted", "d", 2)
    for command in (UpdateEntry(entry_id=entry_id, effective_at=1), PostPending(entry_id=entry_id)):
        with pytest.raises(EntryNotPending):
            desk.decide(command)


def test_tending_decides_nothing_of_its_own(desk: Desk) -> None:
    """What is due is done before it."""
    assert desk.decide(Tend()) == Decision(answer=b"{}", resource_id=None, lock_version=None, events=[])
