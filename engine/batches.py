"""The rules of batches: all entries or none, or each for itself; later ones may refer to earlier ones. Pure."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from engine import entries
from engine.books import Books, Decision
from engine.commands import LOCAL, BatchItem, PostBatch, PostEntry, ReverseEntry
from engine.entry_errors import LocalNameUnknown
from engine.errors import Refused
from engine.events import BatchPlace
from engine.journal import put_in_place
from engine.occasion import Occasion
from engine.shapes import BatchOutcome, EntryBatch, encode


def post_batch(command: PostBatch, books: Books, occasion: Occasion) -> Decision:
    """Decide several entries, each seeing what those before it did.

    In an atomic batch one refusal refuses all, saying which; in an independent one it is that entry's outcome.
    """
    layer = Books(books)
    batch_id = occasion.draw()
    merged = Decision(answer=b"", resource_id=batch_id, lock_version=None, events=[])
    names: dict[str, str] = {}
    answers: list[msgspec.Raw | BatchOutcome] = []
    for index, item in enumerate(command.entries):
        try:
            decision = _decide(item, names, layer, occasion)
        except Refused as refused:
            refused.within(f"/entries/{index}")
            if command.mode == "atomic":
                raise
            answers.append(BatchOutcome(index, "refused", None, msgspec.Raw(occasion.describe(refused))))
            continue
        put_in_place(decision, BatchPlace(batch_id, index + 1, len(command.entries)))
        layer.apply(decision)
        answer = msgspec.Raw(decision.answer)
        answers.append(answer if command.mode == "atomic" else BatchOutcome(index, "committed", answer, None))
        merged.absorb(decision)
        name = command.names[index] if command.names else None
        if name is not None and decision.resource_id is not None:
            names[name] = decision.resource_id
    merged.answer = encode(EntryBatch(batch_id, command.mode, answers))
    return merged


def _decide(item: BatchItem, names: dict[str, str], layer: Books, occasion: Occasion) -> Decision:
    if isinstance(item, PostEntry):
        return entries.post_entry(item, layer, occasion)
    if item.entry_id.startswith(LOCAL):
        name = item.entry_id[len(LOCAL) :]
        if name not in names:
            raise LocalNameUnknown(name)
        item = replace(item, entry_id=names[name])
    if isinstance(item, ReverseEntry):
        return entries.reverse_entry(item, layer, occasion)
    return entries.resolve_entry(item, layer, occasion)
