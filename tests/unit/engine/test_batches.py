"""Batches: atomic or each for itself, with references to earlier items; and dry runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.commands import (
    ArchiveEntry,
    BatchItem,
    CreateHold,
    PostBatch,
    PostEntry,
    PostPending,
    ReverseEntry,
    Validate,
)
from engine.entry_errors import EntryAlreadyReversed, LocalNameUnknown
from engine.errors import InsufficientFunds, UnbalancedEntry
from engine.events import BatchPlace
from tests.unit.engine.desk import Desk, entry, line, told


@pytest.fixture
def desk() -> Desk:
    """A desk with no accounts yet."""
    return Desk()


@pytest.fixture
def pair(desk: Desk) -> tuple[str, str]:
    """Cash and sales."""
    return desk.account("asset"), desk.account("revenue")


def run(desk: Desk, *items: BatchItem, names: tuple[str | None, ...] = (), mode: Any = "atomic") -> Any:
    """Run a batch and return its answer."""
    return told(desk.run(PostBatch(entries=items, names=names, mode=mode)))


def test_later_items_deal_with_what_earlier_ones_made(desk: Desk, pair: tuple[str, str]) -> None:
    """Reserved, posted and reversed in one request; every event knows its place."""
    command = PostBatch(
        entries=(
            entry(*pair, 10, status="pending"),
            PostPending(entry_id="local:order"),
            ReverseEntry(entry_id="local:order", description="oops"),
            entry(*pair, 3, status="pending"),
            ArchiveEntry(entry_id="local:other"),
        ),
        names=("order", None, "back", "other", None),
    )
    decision = desk.run(command)
    answer = told(decision)
    assert [each["status"] for each in answer["data"]] == ["pending", "posted", "posted", "pending", "archived"]
    assert answer["data"][2]["reverses"] == answer["data"][0]["id"]
    assert desk.totals(pair[0]) == (10, 10, 0, 0)
    places = [(event.type, event.batch) for event in decision.events]
    batch_id = answer["id"]
    assert places == [
        ("entry.created", BatchPlace(batch_id, 1, 5)),
        ("entry.posted", BatchPlace(batch_id, 2, 5)),
        ("entry.posted", BatchPlace(batch_id, 3, 5)),
        ("entry.reversed", BatchPlace(batch_id, 3, 5)),
        ("entry.created", BatchPlace(batch_id, 4, 5)),
        ("entry.archived", BatchPlace(batch_id, 5, 5)),
    ]


def test_items_deal_with_what_there_was_before_the_batch(desk: Desk, pair: tuple[str, str]) -> None:
    """By its id; the batch is no thing with versions of its own, and a name is only known after its item."""
    entry_id = desk.post(*pair, 10, status="pending")
    decision = desk.decide(PostBatch(entries=(PostPending(entry_id=entry_id), ReverseEntry(entry_id=entry_id))))
    assert [each["status"] for each in told(decision)["data"]] == ["posted", "posted"]
    assert (decision.resource_id, decision.lock_version) == (told(decision)["id"], None)
    with pytest.raises(LocalNameUnknown) as refused:
        run(desk, ArchiveEntry(entry_id="local:XX"), entry(*pair, 1, status="pending"), names=(None, "XX"))
    assert refused.value.pointer.startswith("/entries/0")


def test_atomic_batch_with_one_refusal_is_nothing(desk: Desk, pair: tuple[str, str]) -> None:
    """The refusal says which item it was."""
    with pytest.raises(EntryAlreadyReversed) as refused:
        run(
            desk,
            entry(*pair, 10),
            ReverseEntry(entry_id="local:a"),
            ReverseEntry(entry_id="local:a"),
            names=("a", None, None),
        )
    assert refused.value.pointer == "/entries/2"
    assert desk.totals(pair[0]) == (0, 0, 0, 0)


def test_independent_batch_gives_every_item_its_own_outcome(desk: Desk, pair: tuple[str, str]) -> None:
    """In order; what failed has left nothing, what refers to it fails too."""
    wallet = desk.account("liability", allow_negative=False)
    answer = run(
        desk,
        entry(*pair, 10),
        entry(wallet, pair[0], 5),
        PostEntry(lines=(line(pair[0], "debit", 1), line(pair[1], "credit", 2))),
        ReverseEntry(entry_id="local:broke"),
        ReverseEntry(entry_id="local:good"),
        names=("good", "broke", None, None, None),
        mode="independent",
    )
    assert [(each["index"], each["status"]) for each in answer["data"]] == [
        (0, "committed"),
        (1, "refused"),
        (2, "refused"),
        (3, "refused"),
        (4, "committed"),
    ]
    problems = [each["problem"]["code"] for each in answer["data"] if each["problem"] is not None]
    assert problems == [InsufficientFunds.__name__, UnbalancedEntry.__name__, LocalNameUnknown.__name__]
    assert answer["data"][1]["problem"]["errors"][0]["pointer"] == "/entries/1/lines/0/amount"
    assert [each["entry"] is None for each in answer["data"]] == [False, True, True, True, False]
    assert desk.totals(pair[0]) == (10, 10, 0, 0)
    assert desk.totals(wallet) == (0, 0, 0, 0)


def test_items_see_what_earlier_items_did(desk: Desk) -> None:
    """The funds that an earlier item brought are there for a later one, and gone for the one after."""
    wallet, cash = desk.account("liability", allow_negative=False), desk.account("asset")
    answer = run(desk, entry(cash, wallet, 5), entry(wallet, cash, 5), entry(wallet, cash, 1), mode="independent")
    assert [each["status"] for each in answer["data"]] == ["committed", "committed", "refused"]


def test_dry_run_answers_what_posting_would_and_keeps_nothing(desk: Desk, pair: tuple[str, str]) -> None:
    """The same balances, the same refusals; not one row or event."""
    command = entry(*pair, 10)
    dry = desk.run(Validate(command=command))
    assert (dry.events, dry.entries, dry.lines, dry.totals, dry.resource_id) == ([], [], [], {}, None)
    assert desk.totals(pair[0]) == (0, 0, 0, 0)
    real = told(desk.run(command))
    for each in (tried := told(dry)), real:
        for name in ("id", "lines"):
            if name == "lines":
                for one in each["lines"]:
                    one.pop("id")
            else:
                each.pop(name)
    assert tried == real
    wallet = desk.account("liability", allow_negative=False)
    with pytest.raises(InsufficientFunds):
        desk.run(Validate(command=entry(wallet, pair[0], 1)))


@pytest.mark.parametrize("kind", ["batch", "hold"])
def test_batches_and_holds_have_dry_runs_too(desk: Desk, pair: tuple[str, str], kind: str) -> None:
    """By the same wrapper."""
    command: Any = (
        PostBatch(entries=(entry(*pair, 1), entry(*pair, 2)))
        if kind == "batch"
        else CreateHold(entry=entry(*pair, 1, status="pending", held=True))
    )
    assert msgspec.json.decode(desk.run(Validate(command=command)).answer)
    assert desk.totals(pair[0]) == (0, 0, 0, 0)
