"""Commands say which rows they have to know, all of them and no others, and how much they weigh."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from engine.category_commands import (
    ArchiveMonitor,
    CreateCategory,
    CreateMonitor,
    LinkCategory,
    PlaceAccount,
    UpdateCategory,
    UpdateMonitor,
)
from engine.commands import (
    AcceptEntry,
    ArchiveEntry,
    CaptureHold,
    CloseAccount,
    Command,
    CreateAccount,
    CreateHold,
    CreateLedger,
    ExpireHold,
    PostAccepted,
    PostBatch,
    PostPart,
    PostPending,
    RecordFact,
    ReleaseHold,
    ReverseEntry,
    Tend,
    UpdateAccount,
    UpdateEntry,
    UpdateLedger,
    Validate,
    needs_of,
)
from engine.event_commands import (
    CreateEventHandler,
    PostBusinessEvent,
    SwitchEventHandler,
    TryEventHandler,
    UpdateEventHandler,
)
from engine.fx_commands import CreateFxRate
from engine.needs import Needs
from engine.reference_commands import ChangeReference, CreateReference
from tests.unit.engine.desk import batch, entry
from tests.unit.engine.handling import definition

IN_LEDGER = msgspec.structs.replace(definition(), ledger_id="l")
CASES: list[tuple[Command, Needs]] = [
    (
        CreateReference(kind="entity", fields={"external_id": "x"}),
        Needs(resources={("entity", "external_id"): {"x"}}),
    ),
    (CreateReference(kind="entity", fields={"external_id": None}), Needs()),
    (
        ChangeReference(kind="product", resource_id="p", changes={"code": "x"}),
        Needs(resources={("product", "id"): {"p"}, ("product", "code"): {"x"}}),
    ),
    (ChangeReference(kind="currency", resource_id="c", changes={}), Needs(resources={("currency", "id"): {"c"}})),
    (CreateLedger(name="n", entity_id="e"), Needs(resources={("entity", "id"): {"e"}})),
    (UpdateLedger(ledger_id="l", entity_id="e"), Needs(ledgers={"l"}, resources={("entity", "id"): {"e"}})),
    (
        CreateAccount(ledger_id="l", name="n", type="asset", currency="PTS", code="1", entity_id="e"),
        Needs(
            ledgers={"l"},
            account_codes={("l", "1")},
            resources={("entity", "id"): {"e"}, ("currency", "code"): {"PTS"}},
        ),
    ),
    (
        UpdateAccount(account_id="a", code="1", entity_id="e"),
        Needs(accounts={"a"}, codes_beside={("a", "1")}, resources={("entity", "id"): {"e"}}),
    ),
    (
        CreateCategory(name="n", currency="PTS", normal_balance="debit"),
        Needs(resources={("currency", "code"): {"PTS"}}),
    ),
    (entry("a", "external_id:b", 1), Needs(accounts={"a"}, account_external_ids={"b"})),
    (entry("a", "b", 1, external_id="x"), Needs(accounts={"a", "b"}, entry_external_ids={"x"})),
    (
        batch(entry("a", "b", 1), entry("b", "external_id:c:d", 1, external_id="x")),
        Needs(accounts={"a", "b"}, account_external_ids={"c:d"}, entry_external_ids={"x"}),
    ),
    (entry("a", "b", 1, effective_at=5), Needs(accounts={"a", "b"}, periods=True)),
    (PostPending(entry_id="e"), Needs(entries={"e"}, periods=True)),
    (PostPart(entry_id="e", parts=()), Needs(entries={"e"}, periods=True)),
    (ArchiveEntry(entry_id="e"), Needs(entries={"e"}, periods=True)),
    (ReverseEntry(entry_id="e", external_id="x"), Needs(entries={"e"}, entry_external_ids={"x"}, periods=True)),
    (UpdateEntry(entry_id="e"), Needs(entries={"e"}, resources={("acceptance", "id"): {"e"}}, periods=True)),
    (
        UpdateEntry(entry_id="e", lines=entry("a", "external_id:b", 1).lines),
        Needs(
            entries={"e"},
            accounts={"a"},
            account_external_ids={"b"},
            resources={("acceptance", "id"): {"e"}},
            periods=True,
        ),
    ),
    (CreateHold(entry=entry("a", "b", 1, external_id="x")), Needs(accounts={"a", "b"}, entry_external_ids={"x"})),
    *(
        (of_hold(hold_id="h"), Needs(entries={"h"}, resources={("hold", "id"): {"h"}}, periods=True))
        for of_hold in (CaptureHold, ReleaseHold, ExpireHold)
    ),
    (Tend(), Needs()),
    (CreateFxRate(base="EUR", quote="USD", rate="1"), Needs()),
    (
        entry("a", "b", 1, fx_rate_id="f"),
        Needs(accounts={"a", "b"}, resources={("fx_rate", "id"): {"f"}}, purposeful=True),
    ),
    (AcceptEntry(entry=entry("a", "b", 1)), Needs(accounts={"a", "b"})),
    (Validate(command=entry("a", "b", 1)), Needs(accounts={"a", "b"})),
    (PostAccepted(entry_id="e", accounts=("a",)), Needs(entries={"e"}, accounts={"a"}, periods=True)),
    (
        PostBatch(entries=(PostPending(entry_id="local:x"), ReverseEntry(entry_id="e"))),
        Needs(entries={"e"}, periods=True),
    ),
    (CreateLedger(name="n"), Needs()),
    (UpdateLedger(ledger_id="l"), Needs(ledgers={"l"})),
    (CreateAccount(ledger_id="l", name="n", type="asset", currency="EUR"), Needs(ledgers={"l"})),
    (
        CreateAccount(ledger_id="l", name="n", type="asset", currency="EUR", external_id="x"),
        Needs(ledgers={"l"}, account_external_ids={"x"}),
    ),
    (UpdateAccount(account_id="a"), Needs(accounts={"a"})),
    (CloseAccount(account_id="a"), Needs(accounts={"a"})),
    (
        CreateCategory(name="n", currency="EUR", normal_balance="debit", ledger_id="l", external_id="x"),
        Needs(ledgers={"l"}, resources={("account_category", "external_id"): {"x"}}),
    ),
    (UpdateCategory(category_id="c"), Needs(categories={"c"})),
    (PlaceAccount(category_id="c", account_id="a", inside=True), Needs(categories={"c"}, accounts={"a"})),
    (
        LinkCategory(category_id="c", child_id="d", inside=False),
        Needs(categories={"c", "d"}, links=[("c", "d", False)]),
    ),
    (
        CreateMonitor(subject="account", subject_id="a", field="posted", operator="gt", value=1),
        Needs(accounts={"a"}),
    ),
    (
        CreateMonitor(subject="account_category", subject_id="c", field="posted", operator="gt", value=1),
        Needs(categories={"c"}),
    ),
    (UpdateMonitor(monitor_id="m"), Needs(resources={("balance_monitor", "id"): {"m"}})),
    (ArchiveMonitor(monitor_id="m"), Needs(resources={("balance_monitor", "id"): {"m"}})),
    (CreateEventHandler(name="n", definition=definition()), Needs()),
    (CreateEventHandler(name="n", definition=IN_LEDGER), Needs(ledgers={"l"})),
    (
        UpdateEventHandler(handler_id="h", definition={"ledger_id": "l"}),
        Needs(ledgers={"l"}, resources={("event_handler", "id"): {"h"}}),
    ),
    (SwitchEventHandler(handler_id="h", status="active"), Needs(resources={("event_handler", "id"): {"h"}})),
    (
        PostBusinessEvent(name="n", external_id="x"),
        Needs(handled_names={"n"}, resources={("business_event", "external_id"): {"x"}}),
    ),
    (Validate(command=PostBusinessEvent(name="n")), Needs(handled_names={"n"})),
    (
        TryEventHandler(handler=CreateEventHandler(name="n", definition=IN_LEDGER), event=PostBusinessEvent(name="m")),
        Needs(ledgers={"l"}, handled_names={"m"}),
    ),
    (RecordFact(key="k", type="t", resource_type="r", resource_id="i", data=b""), Needs(facts={"k"})),
]


@pytest.mark.parametrize(("command", "needs"), CASES)
def test_command_needs_these_rows(command: Command, needs: Needs) -> None:
    """A batch reads them once, for all its commands."""
    assert needs_of([command]) == needs


def test_every_command_is_asked_what_it_needs() -> None:
    """No command is missing from the cases above."""
    assert {type(command) for command, _ in CASES} == set(get_args(Command))


def test_needs_of_a_batch_are_those_of_all_its_commands() -> None:
    """Gathered once each."""
    needs = needs_of([command for command, _ in CASES])
    assert needs == Needs(
        ledgers={"l"},
        accounts={"a", "b"},
        account_external_ids={"b", "c:d", "x"},
        account_codes={("l", "1")},
        codes_beside={("a", "1")},
        entries={"e", "h"},
        entry_external_ids={"x"},
        facts={"k"},
        purposeful=True,
        periods=True,
        categories={"c", "d"},
        links=[("c", "d", False)],
        handled_names={"m", "n"},
        resources={
            ("account_category", "external_id"): {"x"},
            ("balance_monitor", "id"): {"m"},
            ("acceptance", "id"): {"e"},
            ("fx_rate", "id"): {"f"},
            ("hold", "id"): {"h"},
            ("event_handler", "id"): {"h"},
            ("business_event", "external_id"): {"x"},
            ("entity", "id"): {"e"},
            ("entity", "external_id"): {"x"},
            ("currency", "id"): {"c"},
            ("currency", "code"): {"PTS"},
            ("product", "id"): {"p"},
            ("product", "code"): {"x"},
        },
    )


def test_entries_weigh_their_lines() -> None:
    """A transaction is bounded by lines, whatever form they come in."""
    assert entry("a", "b", 1).weight == 2
    assert batch(entry("a", "b", 1), entry("a", "b", 1)).weight == 4
    assert all(command.weight >= 1 for command, _ in CASES)
